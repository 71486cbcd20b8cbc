package contest;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Members of a group, for bench-groups: {@code start N} and {@code stop N} on standard input. */
public final class GroupMembers {
    private static final Map<Integer, AtomicBoolean> members = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        Map<String, String> args = new HashMap<>();
        for (String argument : arguments) {
            String[] pair = argument.substring(2).split("=", 2);
            args.put(pair[0], pair[1]);
        }
        say("ready\n");
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String order = orders.readLine(); order != null; order = orders.readLine()) {
            int member = Integer.parseInt(order.split(" ")[1]);
            if (order.startsWith("start ")) {
                AtomicBoolean stopped = new AtomicBoolean();
                members.put(member, stopped);
                new Thread(() -> read(args, member, stopped)).start();
            } else {
                members.remove(member).set(true);
            }
        }
        System.exit(0);
    }

    private static void read(Map<String, String> args, int member, AtomicBoolean stopped) {
        Properties config = new Properties();
        config.put("bootstrap.servers", args.get("bootstrap"));
        config.put("group.id", args.get("group"));
        config.put("key.deserializer", ByteArrayDeserializer.class.getName());
        config.put("value.deserializer", ByteArrayDeserializer.class.getName());
        config.put("auto.offset.reset", "earliest");
        switch (args.get("protocol")) {
            case "consumer" -> config.put("group.protocol", "consumer");
            case "range" -> classic(config, "RangeAssignor");
            case "cooperative-sticky" -> classic(config, "CooperativeStickyAssignor");
            default -> throw new IllegalArgumentException("unknown protocol " + args.get("protocol"));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config)) {
            consumer.subscribe(List.of(args.get("topic")));
            int held = 0;
            while (!stopped.get()) {
                var records = consumer.poll(Duration.ofMillis(100));
                long received = System.nanoTime();
                StringBuilder said = new StringBuilder();
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    said.append("read ").append(record.partition()).append(' ');
                    said.append(record.offset()).append(' ').append(received).append('\n');
                }
                int holds = consumer.assignment().size();
                if (holds != held) {
                    held = holds;
                    said.append("holds ").append(member).append(' ').append(held).append('\n');
                }
                if (said.length() > 0) {
                    say(said.toString());
                }
            }
        } catch (RuntimeException failure) {
            failure.printStackTrace();
            System.exit(1);
        }
        say("stopped " + member + "\n");
    }

    private static void classic(Properties config, String assignor) {
        config.put("session.timeout.ms", "6000");
        config.put("heartbeat.interval.ms", "2000");
        config.put(
                "partition.assignment.strategy",
                "org.apache.kafka.clients.consumer." + assignor);
    }

    private static synchronized void say(String lines) {
        System.out.print(lines);
        System.out.flush();
    }
}
