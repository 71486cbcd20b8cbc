// Where Sarama and franz-go put keys. For each line of the file named (a key in hex):
//
//	go mod init vectors && go get github.com/IBM/sarama github.com/twmb/franz-go && go run . keys.txt
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"os"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	murmur2 := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	fnv1a := kgo.StickyKeyPartitioner(kgo.SaramaCompatHasher(func(key []byte) uint32 {
		hash := fnv.New32a()
		hash.Write(key)
		return hash.Sum32()
	})).ForTopic("t")
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, err := hex.DecodeString(lines.Text())
		if err != nil {
			panic(err)
		}
		print := func(who string, choose func(partitions int) int) {
			fmt.Print(who, " ", map[bool]string{true: "-", false: lines.Text()}[len(key) == 0])
			for _, partitions := range []int{1, 3, 7, 12, 100} {
				fmt.Print(" ", choose(partitions))
			}
			fmt.Println()
		}
		print("sarama fnv1a_random", func(partitions int) int {
			message := &sarama.ProducerMessage{Topic: "t", Key: sarama.ByteEncoder(key)}
			chosen, err := sarama.NewHashPartitioner("t").Partition(message, int32(partitions))
			if err != nil {
				panic(err)
			}
			return int(chosen)
		})
		print("franz-go murmur2_random", func(n int) int { return murmur2.Partition(&kgo.Record{Key: key}, n) })
		print("franz-go fnv1a_random", func(n int) int { return fnv1a.Partition(&kgo.Record{Key: key}, n) })
	}
}
