import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.common.errors.InvalidMetadataException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.Message;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.Readable;

/**
 * Asks Kafka's own classes what a message means.
 *
 * Standard input has one question a line, fields separated by tabs:
 * "class version hex json". The answer, a line on standard output, is
 * "ok, hex of what Kafka writes for the JSON, hex of what Kafka writes after reading the bytes, JSON of what Kafka reads
 * from the bytes", or "error, why".
 * The question "errors" is answered by one line per error code and an empty line.
 */
public final class JsonOracle {
    private static final String PACKAGE = "org.apache.kafka.common.message.";
    private static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream answers = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            if (line.equals("errors")) {
                errors(answers);
            } else {
                answers.println(answer(line.split("\t", 4)));
            }
            answers.flush();
        }
    }

    private static String answer(String[] question) {
        String stage = "question";
        try {
            short version = Short.parseShort(question[1]);
            Class<?> type = Class.forName(PACKAGE + question[0]);
            Class<?> converter = Class.forName(PACKAGE + question[0] + "JsonConverter");
            stage = "from JSON";
            Method read = converter.getMethod("read", JsonNode.class, short.class);
            Message fromJson = (Message) read.invoke(null, MAPPER.readTree(question[3]), version);
            String written = write(fromJson, version);
            stage = "from bytes";
            ByteBuffer bytes = ByteBuffer.wrap(HexFormat.of().parseHex(question[2]));
            Message fromBytes = (Message) type.getConstructor(Readable.class, short.class)
                .newInstance(new ByteBufferAccessor(bytes), version);
            if (bytes.hasRemaining()) {
                return "error\t" + bytes.remaining() + " bytes left over";
            }
            String rewritten = write(fromBytes, version);
            stage = "to JSON";
            Method write = converter.getMethod("write", type, short.class, boolean.class);
            JsonNode json = (JsonNode) write.invoke(null, fromBytes, version, true);
            return "ok\t" + written + "\t" + rewritten + "\t" + MAPPER.writeValueAsString(json);
        } catch (InvocationTargetException e) {
            return "error\t" + stage + ": " + e.getCause();
        } catch (Exception e) {
            return "error\t" + stage + ": " + e;
        }
    }

    private static String write(Message message, short version) {
        ByteBuffer buffer = MessageUtil.toByteBufferAccessor(message, version).buffer();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return HexFormat.of().formatHex(bytes);
    }

    private static void errors(PrintStream answers) {
        for (Errors error : Errors.values()) {
            Exception exception = error.exception();
            answers.println(error.code() + "\t" + error.name() + "\t" + (exception instanceof RetriableException)
                + "\t" + (exception instanceof InvalidMetadataException));
        }
        answers.println();
    }
}
