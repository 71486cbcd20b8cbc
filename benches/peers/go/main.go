// franz-go as a contestant of the end-to-end benchmark, plain or with its pools (--pooled).
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	bootstrap     = flag.String("bootstrap", "", "broker to start from")
	topic         = flag.String("topic", "clicks", "topic")
	partitions    = flag.Int("partitions", 12, "partitions of the topic")
	mode          = flag.String("mode", "", "produce, consume, latency or endtoend")
	workload      = flag.String("workload", "", "file of records")
	codec         = flag.String("codec", "none", "compression")
	batchBytes    = flag.Int("batch-bytes", 1_000_000, "bytes that a batch is filled to")
	warmupSeconds = flag.Float64("warmup-seconds", 1, "length of the warm-up")
	seconds       = flag.Float64("seconds", 2, "length of the measured phase")
	warmupRecords = flag.Int64("warmup-records", 0, "most records in the warm-up")
	recordsMax    = flag.Int64("records", 0, "most records in the measured phase")
	rate          = flag.Int64("rate", 1000, "records per second in the latency modes")
	pooled        = flag.Bool("pooled", false, "use pools")
)

var stdin = bufio.NewReader(os.Stdin)

type event struct{ key, value []byte }

type outcome struct {
	records    int64
	valueBytes int64
	latencies  []int64
}

type phase struct {
	until time.Time
	max   int64
}

func (p phase) open(records int64) bool { return records < p.max && time.Now().Before(p.until) }

func newPhase(seconds float64, records int64) phase {
	if records == 0 {
		records = math.MaxInt64
	}
	return phase{time.Now().Add(time.Duration(seconds * float64(time.Second))), records}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "franz-go:", err)
		os.Exit(1)
	}
}

func load(path string) []event {
	raw, err := os.ReadFile(path)
	check(err)
	var events []event
	for len(raw) > 0 {
		n := int(binary.BigEndian.Uint16(raw))
		key := raw[2 : 2+n]
		raw = raw[2+n:]
		n = int(binary.BigEndian.Uint32(raw))
		events = append(events, event{key, raw[4 : 4+n]})
		raw = raw[4+n:]
	}
	return events
}

func contest(body func(phase) outcome) {
	body(newPhase(*warmupSeconds, *warmupRecords))
	fmt.Println("ready")
	stdin.ReadString('\n')
	started := time.Now()
	result := body(newPhase(*seconds, *recordsMax))
	report := map[string]any{
		"records":     result.records,
		"value_bytes": result.valueBytes,
		"seconds":     time.Since(started).Seconds(),
	}
	if n := len(result.latencies); n > 0 {
		slices.Sort(result.latencies)
		rank := func(share float64) int64 {
			return result.latencies[min(max(int(math.Ceil(float64(n)*share)), 1), n)-1]
		}
		report["p50_us"], report["p99_us"] = rank(0.50), rank(0.99)
		report["max_us"] = result.latencies[n-1]
	}
	line, err := json.Marshal(report)
	check(err)
	fmt.Println(string(line))
	stdin.ReadString('\n')
}

func compression() kgo.CompressionCodec {
	switch *codec {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	default:
		return kgo.NoCompression()
	}
}

func producerOptions(linger time.Duration) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(*bootstrap),
		kgo.DefaultProduceTopic(*topic),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerBatchCompression(compression()),
		kgo.ProducerLinger(linger),
		kgo.ProducerBatchMaxBytes(int32(*batchBytes)),
		kgo.MaxBufferedBytes(64 << 20),
		// Counts must not hold records back before bytes do.
		kgo.MaxBufferedRecords(2_000_000),
	}
}

func consumerOptions(at kgo.Offset) []kgo.Opt {
	offsets := make(map[int32]kgo.Offset)
	for p := 0; p < *partitions; p++ {
		offsets[int32(p)] = at
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(*bootstrap),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{*topic: offsets}),
	}
	if *pooled {
		opts = append(opts, kgo.WithPools(&pools{}))
	}
	return opts
}

func client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(opts...)
	check(err)
	return cl
}

func produce(events []event) {
	cl := client(producerOptions(5 * time.Millisecond)...)
	ctx := context.Background()
	var failed atomic.Int64
	recycled := sync.Pool{New: func() any { return new(kgo.Record) }}
	promise := func(r *kgo.Record, err error) {
		if err != nil {
			failed.Add(1)
		}
		if *pooled {
			*r = kgo.Record{}
			recycled.Put(r)
		}
	}
	contest(func(p phase) outcome {
		var out outcome
		at := 0
		for p.open(out.records) {
			for range 256 {
				e := events[at]
				if at++; at == len(events) {
					at = 0
				}
				var r *kgo.Record
				if *pooled {
					r = recycled.Get().(*kgo.Record)
					r.Key, r.Value = e.key, e.value
				} else {
					r = &kgo.Record{Key: e.key, Value: e.value}
				}
				cl.Produce(ctx, r, promise)
				out.valueBytes += int64(len(e.value))
			}
			out.records += 256
		}
		check(cl.Flush(ctx))
		if n := failed.Load(); n > 0 {
			check(fmt.Errorf("%d records were not acknowledged", n))
		}
		return out
	})
}

func consume() {
	cl := client(consumerOptions(kgo.NewOffset().AtStart())...)
	touched := 0
	contest(func(p phase) outcome {
		var out outcome
		for p.open(out.records) {
			ctx, cancel := context.WithDeadline(context.Background(), p.until)
			fetches := cl.PollRecords(ctx, 20_000)
			cancel()
			if fetches.NumRecords() == 0 && time.Now().Before(p.until) {
				check(fetches.Err())
			}
			fetches.EachRecord(func(r *kgo.Record) {
				touched += int(r.Value[0])
				out.records++
				out.valueBytes += int64(len(r.Value))
				if *pooled {
					r.Recycle()
				}
			})
		}
		return out
	})
	if touched == 0 {
		fmt.Fprintln(os.Stderr, "no value was touched")
	}
}

func paced(p phase, events []event, once func(event)) outcome {
	interval := time.Duration(int64(time.Second) / *rate)
	var out outcome
	due := time.Now()
	for p.open(out.records) {
		time.Sleep(time.Until(due))
		due = due.Add(interval)
		if now := time.Now(); due.Before(now) {
			due = now
		}
		e := events[out.records%int64(len(events))]
		started := time.Now()
		once(e)
		out.latencies = append(out.latencies, time.Since(started).Microseconds())
		out.records++
		out.valueBytes += int64(len(e.value))
	}
	return out
}

func latency(events []event) {
	cl := client(producerOptions(0)...)
	ctx := context.Background()
	contest(func(p phase) outcome {
		return paced(p, events, func(e event) {
			check(cl.ProduceSync(ctx, &kgo.Record{Key: e.key, Value: e.value}).FirstErr())
		})
	})
}

func endToEnd(events []event) {
	producer := client(producerOptions(0)...)
	ctx := context.Background()
	consumer := client(consumerOptions(kgo.NewOffset().AtEnd())...)
	// The end is looked up in the background: no record may be sent before it is known.
	wait, cancel := context.WithTimeout(ctx, time.Second)
	consumer.PollFetches(wait)
	cancel()
	contest(func(p phase) outcome {
		return paced(p, events, func(e event) {
			producer.Produce(ctx, &kgo.Record{Key: e.key, Value: e.value}, func(_ *kgo.Record, err error) {
				check(err)
			})
			for consumer.PollFetches(ctx).NumRecords() == 0 {
			}
		})
	})
}

func main() {
	flag.Parse()
	switch strings.ToLower(*mode) {
	case "produce":
		produce(load(*workload))
	case "consume":
		consume()
	case "latency":
		latency(load(*workload))
	case "endtoend":
		endToEnd(load(*workload))
	default:
		check(fmt.Errorf("unknown mode %q", *mode))
	}
}

// pools gives franz-go what it asks for from sync.Pools.
type pools struct{ bytes, raw, records sync.Pool }

func (p *pools) GetDecompressBytes(compressed []byte, _ kgo.CompressionCodecType) []byte {
	if b, ok := p.bytes.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 0, 4*len(compressed))
}

func (p *pools) PutDecompressBytes(b []byte) { p.bytes.Put(&b) }

func (p *pools) GetKRecords(n int) []kmsg.Record {
	if r, ok := p.raw.Get().(*[]kmsg.Record); ok && cap(*r) >= n {
		return *r
	}
	return make([]kmsg.Record, n)
}

func (p *pools) PutKRecords(r []kmsg.Record) { p.raw.Put(&r) }

func (p *pools) GetRecords(n int) []kgo.Record {
	if r, ok := p.records.Get().(*[]kgo.Record); ok && cap(*r) >= n {
		return *r
	}
	return make([]kgo.Record, n)
}

func (p *pools) PutRecords(r []kgo.Record) { p.records.Put(&r) }
