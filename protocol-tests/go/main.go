// The same scenario as in ../python/scenario.py, with franz-go; see there for what each step says.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 40 * time.Second

type facts = map[string]any

// told is a record as the test reads it, its bytes in hex.
type told struct {
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

// bounded ends every call that hangs, and so the program.
var bounded, _ = context.WithTimeout(context.Background(), 2*time.Minute)

var stdin = bufio.NewReader(os.Stdin)

func main() {
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Fprintln(os.Stderr, failure)
			os.Exit(1)
		}
	}()
	what, bootstrap := os.Args[1], strings.Split(os.Args[2], ",")
	if what == "walk" {
		walk(bootstrap, os.Args[3], int16(number(os.Args[4])))
	} else {
		seconds := time.Duration(number(os.Args[6])) * time.Second
		run(bootstrap, os.Args[3], int32(number(os.Args[4])), number(os.Args[5]), seconds)
	}
}

func walk(bootstrap []string, topic string, replicas int16) {
	client := must(kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(50*time.Millisecond)))
	defer client.Close()
	guest := guest{bootstrap, kadm.NewClient(client), topic, topic + "-group"}
	guest.administer(replicas)
	step("produced", facts{"records": guest.produce()})
	guest.share()
	guest.resume()
	guest.reset()

	trim := kadm.Offsets{}
	trim.AddOffset(topic, 0, 2, -1)
	trimmed := must(guest.admin.DeleteRecords(bounded, trim))
	first := trimmed[topic][0]
	check(first.Err)
	step("trimmed", facts{"low": first.LowWatermark, "before": 2})

	check(must(guest.admin.DeleteGroup(bounded, guest.group)).Err)
	_, listed := must(guest.admin.ListGroups(bounded))[guest.group]
	step("group_deleted", facts{"supported": true, "listed": listed})
	check(must(guest.admin.DeleteTopics(bounded, topic)).Error())
	step("topic_deleted", facts{"listed": must(guest.admin.ListTopics(bounded)).Has(topic)})
}

type guest struct {
	bootstrap []string
	admin     *kadm.Client
	topic     string
	group     string
}

func (g *guest) administer(replicas int16) {
	configs := map[string]*string{"retention.ms": kadm.StringPtr("3600000")}
	check(must(g.admin.CreateTopic(bounded, 2, replicas, configs, g.topic)).Err)
	until("the new topic has its two partitions", func() bool { return g.partitions() == 2 })
	retention := g.config("retention.ms")
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("2000000")}}
	for _, altered := range must(g.admin.AlterTopicConfigs(bounded, change, g.topic)) {
		check(altered.Err)
	}
	check(must(g.admin.CreatePartitions(bounded, 1, g.topic)).Error())
	until("the topic has three partitions", func() bool { return g.partitions() == 3 })
	step("administered", facts{
		"listed":     must(g.admin.ListTopics(bounded)).Has(g.topic),
		"partitions": g.partitions(),
		"retention":  retention,
		"still":      g.config("retention.ms"),
		"largest":    g.config("max.message.bytes"),
	})
}

func (g *guest) partitions() int {
	return len(must(g.admin.ListTopics(bounded, g.topic))[g.topic].Partitions)
}

func (g *guest) config(key string) *string {
	described := must(must(g.admin.DescribeTopicConfigs(bounded, g.topic)).On(g.topic, nil))
	check(described.Err)
	for _, config := range described.Configs {
		if config.Key == key {
			return config.Value
		}
	}
	return nil
}

// produce writes every shape of record to every partition and some by key, with each codec in turn.
func (g *guest) produce() []told {
	every := make([]byte, 256)
	for index := range every {
		every[index] = byte(index)
	}
	header := func(key string, value []byte) kgo.RecordHeader { return kgo.RecordHeader{Key: key, Value: value} }
	shapes := []kgo.Record{
		{Key: []byte("key"), Value: []byte("value"), Headers: []kgo.RecordHeader{
			header("h", []byte("1")), header("h", []byte("2")), header("empty", []byte{})}},
		{Value: []byte("null key")},
		{Key: []byte("null value")},
		{Key: []byte{}, Value: []byte{}},
		{Value: []byte("null header"), Headers: []kgo.RecordHeader{header("null", nil)}},
		{Key: []byte("long"), Value: []byte(strings.Repeat("0123456789abcdef", 2000))},
		{Key: every, Value: every, Headers: []kgo.RecordHeader{header("bytes", every)}},
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	var produced []told
	for _, codec := range codecs {
		byHand := g.producer(codec, kgo.ManualPartitioner())
		var records []*kgo.Record
		for partition := range int32(3) {
			for _, shape := range shapes {
				record := shape
				record.Topic, record.Partition = g.topic, partition
				records = append(records, &record)
			}
		}
		check(byHand.ProduceSync(bounded, records...).FirstErr())
		byHand.Close()

		byKey := g.producer(codec, kgo.StickyKeyPartitioner(nil))
		var keyed []*kgo.Record
		for index := range 20 {
			keyed = append(keyed, &kgo.Record{
				Topic: g.topic,
				Key:   fmt.Appendf(nil, "user-%d", index%5),
				Value: fmt.Appendf(nil, "keyed %d", index),
			})
		}
		check(byKey.ProduceSync(bounded, keyed...).FirstErr())
		byKey.Close()
		produced = append(produced, tellAll(append(records, keyed...))...)
	}
	return produced
}

func (g *guest) producer(codec kgo.CompressionCodec, partitioner kgo.Partitioner) *kgo.Client {
	return must(kgo.NewClient(
		kgo.SeedBrokers(g.bootstrap...),
		kgo.ProducerBatchCompression(codec),
		kgo.RecordPartitioner(partitioner),
		kgo.ProducerLinger(20*time.Millisecond),
	))
}

// share has two members read the topic; the second joins late, the first leaves early.
func (g *guest) share() {
	first := join(g.bootstrap, g.group, g.topic)
	until("the only member has every partition", func() bool { return len(first.assigned()) == 3 })
	ends := g.ends()
	until("the only member reads everything", func() bool {
		return slices.Equal(places(first), expected(ends))
	})
	check(first.client.CommitUncommittedOffsets(bounded))
	second := join(g.bootstrap, g.group, g.topic)
	until("two members share the partitions", func() bool {
		one, two := first.assigned(), second.assigned()
		both := append(slices.Clone(one), two...)
		slices.Sort(both)
		return len(one) > 0 && len(two) > 0 && slices.Equal(both, []int32{0, 1, 2})
	})
	var more []*kgo.Record
	for index := range int32(30) {
		value := fmt.Appendf(nil, "shared %d", index)
		more = append(more, &kgo.Record{Topic: g.topic, Partition: index % 3, Value: value})
	}
	writer := g.producer(kgo.GzipCompression(), kgo.ManualPartitioner())
	check(writer.ProduceSync(bounded, more...).FirstErr())
	writer.Close()
	ends = g.ends()
	until("two members read everything once", func() bool {
		return slices.Equal(places(first, second), expected(ends))
	})
	described := must(g.admin.DescribeGroups(bounded, g.group))[g.group]
	check(described.Err)
	shared := [][]int32{first.assigned(), second.assigned()}
	check(second.client.CommitUncommittedOffsets(bounded))
	first.leave()
	until("the one that stays has every partition", func() bool { return len(second.assigned()) == 3 })
	second.leave()
	step("shared", facts{
		"state":     described.State,
		"members":   len(described.Members),
		"assigned":  shared,
		"more":      tellAll(more),
		"records":   append(first.read(), second.read()...),
		"committed": g.committed(),
		"ends":      ends,
	})
}

func (g *guest) resume() {
	// Something was written meanwhile.
	described := must(g.admin.Lag(bounded, g.group))[g.group]
	check(described.Error())
	lag, total := map[int32]int64{}, int64(0)
	for partition, at := range described.Lag[g.topic] {
		lag[partition] = at.Lag
		total += at.Lag
	}
	_, listed := must(g.admin.ListGroups(bounded))[g.group]
	third := join(g.bootstrap, g.group, g.topic)
	until("the next member reads what is new", func() bool { return int64(len(third.read())) >= total })
	third.leave()
	step("resumed", facts{
		"lag":       lag,
		"listed":    listed,
		"state":     described.State,
		"records":   third.read(),
		"committed": g.committed(),
	})
}

func (g *guest) reset() {
	offsets := kadm.Offsets{}
	for partition, at := range []int64{1, 2, 3} {
		offsets.AddOffset(g.topic, int32(partition), at, -1)
	}
	check(g.admin.CommitAllOffsets(bounded, g.group, offsets))
	after := g.committed()
	third := kadm.TopicsSet{}
	third.Add(g.topic, 2)
	check(must(g.admin.DeleteOffsets(bounded, g.group, third)).Error())
	step("reset", facts{"committed": after, "can_delete": true, "then": g.committed()})
}

func (g *guest) committed() map[int32]*int64 {
	committed := map[int32]*int64{0: nil, 1: nil, 2: nil}
	fetched := must(g.admin.FetchOffsets(bounded, g.group))
	fetched.Each(func(at kadm.OffsetResponse) {
		check(at.Err)
		committed[at.Partition] = &at.At
	})
	return committed
}

func (g *guest) ends() map[int32]int64 {
	ends := map[int32]int64{}
	listed := must(g.admin.ListEndOffsets(bounded, g.topic))
	listed.Each(func(at kadm.ListedOffset) {
		check(at.Err)
		ends[at.Partition] = at.Offset
	})
	return ends
}

// run produces count records at a steady rate and reads them in a group, whatever happens to the broker.
func run(bootstrap []string, topic string, partitions int32, count int, length time.Duration) {
	reader := join(bootstrap, topic+"-group", topic)
	producer := must(kgo.NewClient(
		kgo.SeedBrokers(bootstrap...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.MaxBufferedRecords(count),
		kgo.MetadataMinAge(50*time.Millisecond),
	))
	type result struct {
		record *kgo.Record
		err    error
	}
	results := make(chan result, count)
	start := time.Now()
	for index := range count {
		record := &kgo.Record{Topic: topic, Partition: int32(index) % partitions, Value: []byte(strconv.Itoa(index))}
		producer.Produce(bounded, record, func(record *kgo.Record, err error) { results <- result{record, err} })
		if index == count/4 {
			say("under way", nil)
		}
		time.Sleep(time.Until(start.Add(length * time.Duration(index) / time.Duration(count))))
	}
	check(producer.Flush(bounded))
	producer.Close()
	acknowledged, failed := [][3]int64{}, []string{}
	wanted := map[[2]int64]bool{}
	for range count {
		result := <-results
		if result.err != nil {
			failed = append(failed, result.err.Error())
			continue
		}
		at := result.record
		acknowledged = append(acknowledged, [3]int64{int64(number(string(at.Value))), int64(at.Partition), at.Offset})
		wanted[[2]int64{int64(at.Partition), at.Offset}] = true
	}
	until("every acknowledged record is read", func() bool {
		for _, record := range reader.read() {
			delete(wanted, [2]int64{int64(record.Partition), record.Offset})
		}
		return len(wanted) == 0
	})
	reader.leave()
	read := [][3]int64{}
	for _, record := range reader.read() {
		value := number(string(must(hex.DecodeString(*record.Value))))
		read = append(read, [3]int64{int64(value), int64(record.Partition), record.Offset})
	}
	say("done", facts{"acknowledged": acknowledged, "failed": failed, "read": read})
}

func tell(record *kgo.Record) told {
	hexed := func(data []byte) *string {
		if data == nil {
			return nil
		}
		text := hex.EncodeToString(data)
		return &text
	}
	headers := [][2]*string{}
	for _, header := range record.Headers {
		headers = append(headers, [2]*string{&header.Key, hexed(header.Value)})
	}
	return told{record.Partition, record.Offset, hexed(record.Key), hexed(record.Value), headers}
}

func tellAll(records []*kgo.Record) []told {
	all := []told{}
	for _, record := range records {
		all = append(all, tell(record))
	}
	return all
}

func step(name string, facts facts) {
	say(name, facts)
	if _, err := stdin.ReadString('\n'); err != nil {
		os.Exit(0) // the test has ended
	}
}

func say(name string, said facts) {
	if said == nil {
		said = facts{}
	}
	said["step"] = name
	fmt.Println(string(must(json.Marshal(said))))
}

func until(what string, holds func() bool) {
	deadline := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("waited %v in vain until %s", patience, what))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func number(text string) int {
	return must(strconv.Atoi(text))
}
