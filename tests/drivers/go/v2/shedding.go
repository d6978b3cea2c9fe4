// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// witness counts attempts at commands, and what a driver does to a server that it thinks is broken.
type witness struct {
	lock     sync.Mutex
	attempts map[string]int
	cleared  int
	unknown  int
}

func (w *witness) reset() {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.attempts, w.cleared, w.unknown = map[string]int{}, 0, 0
}

func (w *witness) listen(how *options.ClientOptions) {
	how.SetMonitor(&event.CommandMonitor{
		Started: func(_ context.Context, started *event.CommandStartedEvent) {
			w.lock.Lock()
			defer w.lock.Unlock()
			w.attempts[started.CommandName]++
		},
	})
	how.SetPoolMonitor(&event.PoolMonitor{Event: func(happened *event.PoolEvent) {
		w.lock.Lock()
		defer w.lock.Unlock()
		if happened.Type == "ConnectionPoolCleared" {
			w.cleared++
		}
	}})
	how.SetServerMonitor(&event.ServerMonitor{
		ServerDescriptionChanged: func(changed *event.ServerDescriptionChangedEvent) {
			w.lock.Lock()
			defer w.lock.Unlock()
			if fmt.Sprint(changed.NewDescription.Kind) == "Unknown" {
				w.unknown++
			}
		},
	})
}

func tell(name string, facts any) {
	text, err := json.Marshal(facts)
	must(err)
	fmt.Printf("ok %s %s\n", name, text)
}

func shedding() {
	seen := &witness{}
	seen.reset()
	how := options.Client().ApplyURI(os.Getenv("URI"))
	seen.listen(how)
	client, err := connect(how)
	must(err)
	ctx := context.Background()
	defer client.Disconnect(ctx)
	shed := client.Database(os.Getenv("DATABASE")).Collection("shed")
	input := bufio.NewScanner(os.Stdin)

	must(shed.Drop(ctx))
	insert(ctx, shed, thing{0, 0})
	seen.reset()
	fmt.Println("ready")
	input.Scan()

	refused := map[string]any{}
	for name, call := range map[string]func() error{
		"find":   func() error { return shed.FindOne(ctx, byID(0)).Err() },
		"insert": func() error { _, err := shed.InsertOne(ctx, byID(1)); return err },
		"update": func() error { _, err := shed.UpdateMany(ctx, bson.D{}, increment(1)); return err },
	} {
		var told any
		if err := call(); err != nil {
			told = describe(err)
		}
		refused[name] = bson.M{"error": told, "attempts": seen.attempts[name]}
	}
	tell("refused", refused)
	input.Scan()

	tell("recovered", bson.M{"documents": count(ctx, shed), "n": find(ctx, shed, 0).N})
	insert(ctx, shed, byID(2))
	tell("undisturbed", bson.M{"cleared": seen.cleared, "unknown": seen.unknown})
}
