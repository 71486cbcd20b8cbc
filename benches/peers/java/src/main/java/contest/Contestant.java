package contest;

import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Kafka's own Java client as a contestant. */
public final class Contestant {
    private static final BufferedReader STDIN =
            new BufferedReader(new InputStreamReader(System.in));

    private final Map<String, String> args;
    private final String topic;
    private byte[][] keys;
    private byte[][] values;

    /** What happened in a phase. */
    private static final class Outcome {
        long records;
        long valueBytes;
        int[] latencies = new int[0];
    }

    /** One timed phase. */
    private record Phase(long untilNanos, long recordsMax) {
        boolean open(long records) {
            return records < recordsMax && System.nanoTime() < untilNanos;
        }
    }

    private interface Body {
        Outcome run(Phase phase) throws Exception;
    }

    private Contestant(Map<String, String> args) throws IOException {
        this.args = args;
        this.topic = args.getOrDefault("topic", "clicks");
        load(args.get("workload"));
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> args = new HashMap<>();
        for (String argument : arguments) {
            String[] pair = argument.substring(2).split("=", 2);
            args.put(pair[0], pair[1]);
        }
        Contestant contestant = new Contestant(args);
        switch (args.get("mode")) {
            case "produce" -> contestant.produce();
            case "consume" -> contestant.consume();
            case "latency" -> contestant.latency();
            case "endtoend" -> contestant.endToEnd();
            default -> throw new IllegalArgumentException("unknown mode " + args.get("mode"));
        }
        // Whatever threads the client still has, the contest is over.
        System.exit(0);
    }

    private void load(String path) throws IOException {
        List<byte[]> keyList = new ArrayList<>();
        List<byte[]> valueList = new ArrayList<>();
        try (DataInputStream in =
                new DataInputStream(new BufferedInputStream(new FileInputStream(path), 1 << 20))) {
            while (true) {
                byte[] key;
                try {
                    key = new byte[in.readUnsignedShort()];
                } catch (EOFException end) {
                    break;
                }
                in.readFully(key);
                byte[] value = new byte[in.readInt()];
                in.readFully(value);
                keyList.add(key);
                valueList.add(value);
            }
        }
        keys = keyList.toArray(new byte[0][]);
        values = valueList.toArray(new byte[0][]);
    }

    private Phase open(String seconds, String records) {
        long limit = Long.parseLong(args.getOrDefault(records, "0"));
        long nanos = (long) (Double.parseDouble(args.get(seconds)) * 1e9);
        return new Phase(System.nanoTime() + nanos, limit == 0 ? Long.MAX_VALUE : limit);
    }

    private void contest(Body body) throws Exception {
        body.run(open("warmup-seconds", "warmup-records"));
        System.out.println("ready");
        System.out.flush();
        STDIN.readLine();
        long started = System.nanoTime();
        Outcome outcome = body.run(open("seconds", "records"));
        double seconds = (System.nanoTime() - started) / 1e9;
        StringBuilder json = new StringBuilder();
        json.append("{\"records\":").append(outcome.records);
        json.append(",\"value_bytes\":").append(outcome.valueBytes);
        json.append(",\"seconds\":").append(seconds);
        int[] sorted = outcome.latencies;
        if (sorted.length > 0) {
            Arrays.sort(sorted);
            json.append(",\"p50_us\":").append(percentile(sorted, 0.50));
            json.append(",\"p99_us\":").append(percentile(sorted, 0.99));
            json.append(",\"max_us\":").append(sorted[sorted.length - 1]);
        }
        System.out.println(json.append('}'));
        System.out.flush();
        STDIN.readLine();
    }

    private static int percentile(int[] sorted, double share) {
        int rank = (int) Math.ceil(sorted.length * share);
        return sorted[Math.min(Math.max(rank, 1), sorted.length) - 1];
    }

    private KafkaProducer<byte[], byte[]> producer(int lingerMs) {
        Properties config = new Properties();
        config.put("bootstrap.servers", args.get("bootstrap"));
        config.put("key.serializer", ByteArraySerializer.class.getName());
        config.put("value.serializer", ByteArraySerializer.class.getName());
        config.put("acks", "all");
        config.put("enable.idempotence", "true");
        config.put("compression.type", args.getOrDefault("codec", "none"));
        config.put("linger.ms", Integer.toString(lingerMs));
        config.put("batch.size", args.getOrDefault("batch-bytes", "1000000"));
        config.put("max.request.size", "2000000");
        config.put("buffer.memory", Integer.toString(64 << 20));
        return new KafkaProducer<>(config);
    }

    private KafkaConsumer<byte[], byte[]> consumer(boolean fromStart) {
        Properties config = new Properties();
        config.put("bootstrap.servers", args.get("bootstrap"));
        config.put("key.deserializer", ByteArrayDeserializer.class.getName());
        config.put("value.deserializer", ByteArrayDeserializer.class.getName());
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", "20000");
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config);
        List<TopicPartition> partitions = new ArrayList<>();
        for (int p = 0; p < Integer.parseInt(args.getOrDefault("partitions", "12")); p++) {
            partitions.add(new TopicPartition(topic, p));
        }
        consumer.assign(partitions);
        if (fromStart) {
            consumer.seekToBeginning(partitions);
        } else {
            consumer.seekToEnd(partitions);
            partitions.forEach(consumer::position);
        }
        return consumer;
    }

    private void produce() throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(5);
        AtomicLong failed = new AtomicLong();
        Callback countFailures = (metadata, error) -> {
            if (error != null) {
                failed.incrementAndGet();
            }
        };
        contest(phase -> {
            Outcome outcome = new Outcome();
            int index = 0;
            while (phase.open(outcome.records)) {
                for (int i = 0; i < 256; i++) {
                    byte[] value = values[index];
                    producer.send(new ProducerRecord<>(topic, keys[index], value), countFailures);
                    outcome.valueBytes += value.length;
                    index = index + 1 == values.length ? 0 : index + 1;
                }
                outcome.records += 256;
            }
            producer.flush();
            if (failed.get() > 0) {
                throw new IllegalStateException(failed.get() + " records were not acknowledged");
            }
            return outcome;
        });
    }

    private void consume() throws Exception {
        KafkaConsumer<byte[], byte[]> consumer = consumer(true);
        long[] touched = new long[1];
        contest(phase -> {
            Outcome outcome = new Outcome();
            while (phase.open(outcome.records)) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    byte[] value = record.value();
                    touched[0] += value[0];
                    outcome.valueBytes += value.length;
                    outcome.records++;
                }
            }
            return outcome;
        });
        if (touched[0] == 0) {
            System.err.println("no value was touched");
        }
    }

    private void latency() throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(0);
        contest(phase -> paced(phase, index -> {
            producer.send(new ProducerRecord<>(topic, keys[index], values[index])).get();
        }));
    }

    private void endToEnd() throws Exception {
        KafkaProducer<byte[], byte[]> producer = producer(0);
        KafkaConsumer<byte[], byte[]> consumer = consumer(false);
        contest(phase -> paced(phase, index -> {
            producer.send(new ProducerRecord<>(topic, keys[index], values[index]));
            while (consumer.poll(Duration.ofSeconds(5)).isEmpty()) { }
        }));
    }

    private interface Once {
        void run(int index) throws Exception;
    }

    private Outcome paced(Phase phase, Once once) throws Exception {
        long interval = 1_000_000_000L / Long.parseLong(args.getOrDefault("rate", "1000"));
        Outcome outcome = new Outcome();
        int[] latencies = new int[1 << 12];
        long due = System.nanoTime();
        while (phase.open(outcome.records)) {
            long wait;
            while ((wait = due - System.nanoTime()) > 0) {
                LockSupport.parkNanos(wait);
            }
            due = Math.max(due + interval, System.nanoTime());
            int index = (int) (outcome.records % values.length);
            long started = System.nanoTime();
            once.run(index);
            if (outcome.records == latencies.length) {
                latencies = Arrays.copyOf(latencies, latencies.length * 2);
            }
            latencies[(int) outcome.records] = (int) ((System.nanoTime() - started) / 1000);
            outcome.records++;
            outcome.valueBytes += values[index].length;
        }
        outcome.latencies = Arrays.copyOf(latencies, (int) outcome.records);
        return outcome;
    }
}
