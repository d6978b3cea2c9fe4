// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// failover inserts documents one by one, in THREADS goroutines, until its input ends. Then it prints
// of each what the driver said: "done ID" or "failed ID CODE LABELS".
func failover() {
	client, err := connect(options.Client().ApplyURI(os.Getenv("URI")))
	must(err)
	ctx := context.Background()
	things := client.Database("test").Collection("things")
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	said := make([][]string, threads())
	var working sync.WaitGroup
	for number := range said {
		working.Add(1)
		go func(number int) {
			defer working.Done()
			for id := number * 1_000_000; ; id++ {
				select {
				case <-ended:
					return
				default:
					said[number] = append(said[number], insertOne(ctx, things, id))
				}
			}
		}(number)
	}
	working.Wait()
	must(client.Disconnect(ctx))
	for _, lines := range said {
		for _, line := range lines {
			fmt.Println(line)
		}
	}
}

func insertOne(ctx context.Context, things *mongo.Collection, id int) string {
	_, err := things.InsertOne(ctx, byID(id))
	if err == nil {
		return fmt.Sprintf("done %d", id)
	}
	failure := describe(err)
	return fmt.Sprintf("failed %d %d %v", id, failure.Code, failure.Labels)
}
