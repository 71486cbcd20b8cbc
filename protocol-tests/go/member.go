package main

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// member is a member of a group that reads in the background.
type member struct {
	client  *kgo.Client
	stop    context.CancelFunc
	stopped chan struct{}

	mutex   sync.Mutex
	has     map[int32]bool
	records []told
}

func join(bootstrap []string, group, topic string) *member {
	background, stop := context.WithCancel(context.Background())
	joined := &member{stop: stop, stopped: make(chan struct{}), has: map[int32]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			joined.mutex.Lock()
			defer joined.mutex.Unlock()
			for _, partition := range changed[topic] {
				if owned {
					joined.has[partition] = true
				} else {
					delete(joined.has, partition)
				}
			}
		}
	}
	joined.client = must(kgo.NewClient(
		kgo.SeedBrokers(bootstrap...),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
		kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.SessionTimeout(10*time.Second),
		kgo.MetadataMinAge(50*time.Millisecond),
		kgo.MetadataMaxAge(2*time.Second),
	))
	go func() {
		defer close(joined.stopped)
		for background.Err() == nil {
			fetches := joined.client.PollFetches(background)
			joined.mutex.Lock()
			fetches.EachRecord(func(record *kgo.Record) { joined.records = append(joined.records, tell(record)) })
			joined.mutex.Unlock()
		}
	}()
	return joined
}

func (m *member) assigned() []int32 {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	partitions := []int32{}
	for partition := range m.has {
		partitions = append(partitions, partition)
	}
	slices.Sort(partitions)
	return partitions
}

func (m *member) read() []told {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return slices.Clone(m.records)
}

// leave commits what was read, and leaves the group.
func (m *member) leave() {
	m.stop()
	<-m.stopped
	check(m.client.CommitUncommittedOffsets(bounded))
	check(m.client.LeaveGroupContext(bounded))
	m.client.Close()
}

func places(members ...*member) [][2]int64 {
	all := [][2]int64{}
	for _, member := range members {
		for _, record := range member.read() {
			all = append(all, [2]int64{int64(record.Partition), record.Offset})
		}
	}
	sortPlaces(all)
	return all
}

func expected(ends map[int32]int64) [][2]int64 {
	all := [][2]int64{}
	for partition, end := range ends {
		for offset := range end {
			all = append(all, [2]int64{int64(partition), offset})
		}
	}
	sortPlaces(all)
	return all
}

func sortPlaces(all [][2]int64) {
	slices.SortFunc(all, func(one, two [2]int64) int {
		return cmp.Or(cmp.Compare(one[0], two[0]), cmp.Compare(one[1], two[1]))
	})
}
