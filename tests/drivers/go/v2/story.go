// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// As in ../../../story/app.py, whose twin this is.
const (
	mostOutstanding = 5000
	lateAfter       = 100 * time.Millisecond
	customers       = 1000
	orders          = 5000
)

// plan is what ../../../story/story.py asks of one process of the app; times in seconds.
type plan struct {
	Name         string          `json:"name"`
	URI          string          `json:"uri"`
	Database     string          `json:"database"`
	Pool         uint64          `json:"pool"`
	Zero         float64         `json:"zero_unix"`
	Storm        float64         `json:"storm"`
	Calm         float64         `json:"calm"`
	End          float64         `json:"end"`
	Phase        float64         `json:"phase"`
	FastRate     float64         `json:"fast_rate"`
	FastDeadline float64         `json:"fast_deadline_s"`
	SlowRate     float64         `json:"slow_rate"`
	SlowDeadline float64         `json:"slow_deadline_s"`
	SlowPipeline json.RawMessage `json:"slow_pipeline"`
}

// app is one process of the story's app: a pool, and operations that begin when they are due.
type app struct {
	plan
	orders *mongo.Collection
	zero   time.Time
	given  context.Context // until what is still open at the end is given up

	lock   sync.Mutex
	open   int
	opened sync.WaitGroup
	done   [][]any // kind, due, took, outcome
	late   int
}

type operation func(ctx context.Context) error

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func story() {
	var its plan
	must(json.Unmarshal([]byte(os.Getenv("PLAN")), &its))
	how := options.Client().ApplyURI(its.URI).SetMaxPoolSize(its.Pool).SetAppName(its.Name)
	client, err := connect(how)
	must(err)
	given, giveUp := context.WithCancel(context.Background())
	one := &app{
		plan:   its,
		orders: client.Database(its.Database).Collection("orders"),
		zero:   time.Unix(0, int64(its.Zero*1e9)),
		given:  given,
	}
	for i := 0; i < 10; i++ {
		_ = one.fast(given)
	}
	one.run()
	giveUp()
	one.opened.Wait()
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{"late": one.late, "done": one.done}))
}

func (a *app) run() {
	slow := a.slow()
	var arriving sync.WaitGroup
	arriving.Add(2)
	go func() {
		defer arriving.Done()
		a.arrivals("fast", a.fast, a.FastRate, 0, a.End, a.FastDeadline)
	}()
	go func() {
		defer arriving.Done()
		a.arrivals("slow", slow, a.SlowRate, a.Storm, a.Calm, a.SlowDeadline)
	}()
	arriving.Wait()
	time.Sleep(seconds(a.FastDeadline + 0.5))
}

// Four of five read by an index, the fifth is a small write.
func (a *app) fast(ctx context.Context) error {
	if rand.Intn(5) == 0 {
		_, err := a.orders.UpdateOne(ctx, byID(rand.Intn(orders)), bson.D{{"$inc", bson.D{{"seen", 1}}}})
		return err
	}
	query := bson.D{{"customer", rand.Intn(customers)}}
	cursor, err := a.orders.Find(ctx, query, options.Find().SetLimit(5))
	if err != nil {
		return err
	}
	var found []bson.D
	return cursor.All(ctx, &found)
}

func (a *app) slow() operation {
	if string(a.SlowPipeline) == "null" {
		return a.distinct
	}
	var holder struct{ P bson.A }
	must(bson.UnmarshalExtJSON([]byte(`{"p":`+string(a.SlowPipeline)+`}`), false, &holder))
	return func(ctx context.Context) error {
		cursor, err := a.orders.Aggregate(ctx, holder.P)
		if err != nil {
			return err
		}
		var found []bson.D
		return cursor.All(ctx, &found)
	}
}

func (a *app) distinct(ctx context.Context) error {
	query := bson.D{{"customer", rand.Intn(customers)}}
	command := bson.D{{"distinct", "orders"}, {"key", "status"}, {"query", query}}
	return a.orders.Database().RunCommand(ctx, command).Err()
}

func (a *app) arrivals(kind string, do operation, rate, begin, end, deadline float64) {
	for number := 0; number < int((end-begin)*rate+0.5); number++ {
		due := begin + (float64(number)+a.Phase)/rate
		time.Sleep(time.Until(a.zero.Add(seconds(due))))
		a.lock.Lock()
		if time.Since(a.zero.Add(seconds(due))) > lateAfter {
			a.late++
		}
		if a.open >= mostOutstanding {
			a.done = append(a.done, []any{kind, due, 0.0, "not begun, too many open"})
		} else {
			a.open++
			a.opened.Add(1)
			go a.once(kind, do, due, deadline)
		}
		a.lock.Unlock()
	}
}

func (a *app) once(kind string, do operation, due, deadline float64) {
	defer a.opened.Done()
	ctx, cancel := context.WithTimeout(a.given, seconds(deadline))
	defer cancel()
	outcome := "ok"
	if err := do(ctx); a.given.Err() != nil {
		outcome = "unfinished at the end"
	} else if err != nil {
		outcome = outcomeOf(err)
	}
	took := time.Since(a.zero.Add(seconds(due))).Seconds()
	a.lock.Lock()
	defer a.lock.Unlock()
	a.open--
	a.done = append(a.done, []any{kind, due, took, outcome})
}

// What the app's own log would say.
func outcomeOf(err error) string {
	var command mongo.CommandError
	var server mongo.ServerError
	said := errors.As(err, &server)
	switch {
	case said && server.HasErrorLabel("SystemOverloadedError") && server.HasErrorCode(462):
		return "refused, overloaded (462)"
	case said && server.HasErrorCode(50):
		return "stopped at its deadline (50)"
	case errors.As(err, &command) && command.Code > 0:
		return "error " + strconv.Itoa(int(command.Code))
	case strings.Contains(err.Error(), "checking out a connection"):
		return "no connection free in time"
	case strings.Contains(err.Error(), "server selection"):
		return "no server in time"
	case mongo.IsTimeout(err), errors.Is(err, context.DeadlineExceeded):
		return "no reply in time"
	case mongo.IsNetworkError(err):
		return "connection lost"
	}
	return err.Error()
}
