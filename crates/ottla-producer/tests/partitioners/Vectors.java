// Where Java puts keys. For each line of the file named (a key in hex):
//   java -cp 'kafka/libs/*' Vectors.java keys.txt
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

public class Vectors {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            byte[] key = HexFormat.of().parseHex(line.trim());
            StringBuilder row = new StringBuilder("java murmur2_random " + (line.isBlank() ? "-" : line.trim()));
            for (int partitions : new int[] {1, 3, 7, 12, 100}) {
                row.append(' ').append(BuiltInPartitioner.partitionForKey(key, partitions));
            }
            System.out.println(row);
        }
    }
}
