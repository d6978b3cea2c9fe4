// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const pace = 10 * time.Millisecond

type paced struct {
	name    string
	operate func() error
}

// pacing does one operation every 10 ms until its input ends.
func pacing() {
	client, err := connect(options.Client().ApplyURI(os.Getenv("URI")))
	must(err)
	ctx := context.Background()
	defer client.Disconnect(ctx)
	things := client.Database(os.Getenv("DATABASE")).Collection("pacing")
	mine := byID(os.Getpid())
	operations := []paced{
		{"write", func() error { _, err := things.UpdateOne(ctx, mine, increment(1)); return err }},
		{"read", func() error { return things.FindOne(ctx, mine).Err() }},
	}
	insert(ctx, things, thing{os.Getpid(), 0})
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	start, due := time.Now(), time.Now()
	for running := true; running; {
		for _, one := range operations {
			time.Sleep(time.Until(due))
			due = time.Now().Add(pace)
			said := "ok"
			if err := one.operate(); err != nil {
				said = fmt.Sprintf("%q", err)
			}
			fmt.Println(one.name, time.Since(start).Microseconds(), said)
		}
		select {
		case <-ended:
			running = false
		default:
		}
	}
	fmt.Println("n", find(ctx, things, os.Getpid()).N, "ok")
}
