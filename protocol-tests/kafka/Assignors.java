import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Assignment;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.GroupSubscription;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor.Subscription;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.common.Cluster;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;

/**
 * Has the assignors of Kafka's consumer distribute the partitions of made-up groups, and prints what goes in and what
 * comes out. Arguments: a seed, and how many groups to live through some rebalances.
 *
 * <p>A case is a few lines and an empty one. {@code topic t0 east+west east -}: the racks of each partition's replicas.
 * {@code member ID INSTANCE RACK GENERATION TOPICS OWNED PREVIOUS USERDATA}: what it subscribes to, owns by its
 * subscription, and was assigned before by {@code sticky}, with what that makes of it. {@code range ID=t0-0,t0-1 ID=}:
 * who gets what.
 */
public final class Assignors {
    private static final String[] RACKS = {"east", "west", "north"};

    private final Random random;
    private final Map<String, List<String>> topics = new TreeMap<>();
    private final List<Member> members = new ArrayList<>();
    private final boolean racks;
    private final boolean alike;
    private int generation;

    private static final class Member {
        String id;
        Optional<String> instance = Optional.empty();
        Optional<String> rack = Optional.empty();
        int generation = -1;
        List<String> topics = new ArrayList<>();
        List<TopicPartition> owned = List.of();
        int previousGeneration = -1;
        List<TopicPartition> previous;
    }

    private Assignors(Random random) {
        this.random = random;
        racks = random.nextInt(3) == 0;
        alike = random.nextBoolean();
    }

    public static void main(String[] arguments) {
        Random random = new Random(Long.parseLong(arguments[0]));
        for (int group = 0; group < Integer.parseInt(arguments[1]); group++) {
            new Assignors(random).live();
        }
    }

    private void live() {
        for (int index = 1 + random.nextInt(4); index > 0; index--) {
            grow("t" + random.nextInt(6));
        }
        for (int index = 1 + random.nextInt(random.nextInt(4) == 0 ? 20 : 5); index > 0; index--) {
            join();
        }
        for (int round = random.nextInt(4); round >= 0; round--) {
            rebalance();
            change();
        }
    }

    private void grow(String topic) {
        List<String> partitions = topics.computeIfAbsent(topic, name -> new ArrayList<>());
        for (int count = 1 + random.nextInt(7); count > 0; count--) {
            Set<String> of = new HashSet<>();
            for (int replica = racks ? 1 + random.nextInt(2) : 0; replica > 0; replica--) {
                of.add(RACKS[random.nextInt(RACKS.length)]);
            }
            partitions.add(of.isEmpty() ? "-" : String.join("+", of));
        }
    }

    private void join() {
        Member member = new Member();
        member.id = "c" + random.nextInt(30) + "-" + Integer.toHexString(random.nextInt());
        if (random.nextInt(4) == 0) {
            member.instance = Optional.of("i" + random.nextInt(1000) + "-" + members.size());
        }
        if (racks && random.nextInt(5) > 0) {
            member.rack = Optional.of(RACKS[random.nextInt(RACKS.length)]);
        }
        members.add(member);
        subscribe(member);
    }

    private void subscribe(Member member) {
        member.topics.clear();
        for (String topic : topics.keySet()) {
            if (alike || random.nextBoolean()) {
                member.topics.add(topic);
            }
        }
        if (member.topics.isEmpty()) {
            member.topics.add(topics.keySet().iterator().next());
        }
    }

    private void change() {
        for (int count = random.nextInt(4); count > 0; count--) {
            switch (random.nextInt(6)) {
                case 0 -> grow("t" + random.nextInt(6));
                case 1 -> {
                    if (members.size() > 1) {
                        members.remove(random.nextInt(members.size()));
                    }
                }
                case 2, 3 -> join();
                case 4 -> {
                    if (!alike) {
                        subscribe(any());
                    }
                }
                default -> {
                    // It missed a rebalance, and claims what is another's by now.
                    Member late = any();
                    Member other = any();
                    late.owned = other.owned;
                    late.generation = Math.max(-1, late.generation - random.nextInt(3));
                    if (other.previous != null) {
                        late.previous = other.previous;
                        late.previousGeneration = late.generation;
                    }
                }
            }
        }
        if (alike) {
            members.forEach(this::subscribe);
        }
    }

    private Member any() {
        return members.get(random.nextInt(members.size()));
    }

    private void rebalance() {
        StringBuilder printed = new StringBuilder();
        List<PartitionInfo> partitions = new ArrayList<>();
        Map<String, Integer> next = new HashMap<>();
        topics.forEach((topic, of) -> {
            printed.append("topic ").append(topic);
            for (String where : of) {
                Node[] replicas = where.equals("-")
                        ? new Node[0]
                        : List.of(where.split("\\+")).stream()
                                .map(rack -> new Node(1, "host", 1, rack))
                                .toArray(Node[]::new);
                partitions.add(new PartitionInfo(topic, next.merge(topic, 1, Integer::sum) - 1, null, replicas, replicas));
                printed.append(' ').append(where);
            }
            printed.append('\n');
        });
        Cluster cluster = new Cluster("c", List.of(), partitions, Set.of(), Set.of());
        for (Member member : members) {
            ByteBuffer data = userData(member);
            printed.append(String.join(
                    " ",
                    "member",
                    member.id,
                    member.instance.orElse("-"),
                    member.rack.orElse("-"),
                    Integer.toString(member.generation),
                    String.join(",", member.topics),
                    member.owned.isEmpty() ? "-" : names(member.owned),
                    member.previous == null ? "-" : member.previousGeneration + ":" + names(member.previous),
                    data == null ? "-" : hex(data)));
            printed.append('\n');
        }
        run(printed, cluster, new RangeAssignor());
        run(printed, cluster, new RoundRobinAssignor());
        Map<String, Assignment> sticky = run(printed, cluster, new StickyAssignor());
        Map<String, Assignment> cooperative = run(printed, cluster, new CooperativeStickyAssignor());
        System.out.println(printed);
        generation++;
        for (Member member : members) {
            member.generation = generation;
            member.previousGeneration = generation;
            if (sticky != null) {
                member.previous = sticky.get(member.id).partitions();
            }
            if (cooperative != null) {
                member.owned = cooperative.get(member.id).partitions();
            }
        }
    }

    private Map<String, Assignment> run(StringBuilder printed, Cluster cluster, ConsumerPartitionAssignor assignor) {
        boolean sticky = assignor instanceof StickyAssignor;
        Map<String, Subscription> subscriptions = new HashMap<>();
        for (Member member : members) {
            Subscription subscription = new Subscription(
                    member.topics,
                    sticky ? userData(member) : null,
                    sticky ? List.of() : member.owned,
                    member.generation,
                    member.rack);
            subscription.setGroupInstanceId(member.instance);
            subscriptions.put(member.id, subscription);
        }
        printed.append(assignor.name());
        try {
            Map<String, Assignment> assignment =
                    assignor.assign(cluster, new GroupSubscription(subscriptions)).groupAssignment();
            for (Member member : members) {
                printed.append(' ').append(member.id).append('=');
                printed.append(names(assignment.get(member.id).partitions()));
            }
            printed.append('\n');
            return assignment;
        } catch (RuntimeException failed) {
            printed.append(" failed ").append(failed.getClass().getSimpleName()).append('\n');
            return null;
        }
    }

    private static ByteBuffer userData(Member member) {
        StickyAssignor assignor = new StickyAssignor();
        if (member.previous != null) {
            assignor.onAssignment(
                    new Assignment(member.previous),
                    new ConsumerGroupMetadata("g", member.previousGeneration, member.id, Optional.empty()));
        }
        return assignor.subscriptionUserData(Set.of());
    }

    private static String names(List<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::toString).collect(Collectors.joining(","));
    }

    private static String hex(ByteBuffer data) {
        StringBuilder hex = new StringBuilder();
        while (data.hasRemaining()) {
            hex.append(String.format("%02x", data.get()));
        }
        return hex.toString();
    }
}
