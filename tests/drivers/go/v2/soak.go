// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Traffic without end; ../../python/soak.py says more.

const (
	soakNumbers    = 1000
	soakLargeBytes = 300_000
	tallyEvery     = 500 * time.Millisecond
)

type soaker struct {
	ctx     context.Context
	client  *mongo.Client
	numbers *mongo.Collection
	things  *mongo.Collection
	silent  *mongo.Collection
}

type mine struct {
	ID string `bson:"_id"`
	N  int    `bson:"n"`
}

type numbered struct {
	ID    int    `bson:"_id"`
	Token string `bson:"token"`
}

// failed is an error that may come; what must and equal panic with is a wrong answer.
type failed struct{ error }

func try(err error) {
	if err != nil {
		panic(failed{err})
	}
}

func key(token string) bson.D { return bson.D{{Key: "_id", Value: token}} }
func by(token string) bson.D  { return bson.D{{Key: "by", Value: token}} }

func saying(token string) bson.D {
	return bson.D{{Key: "token", Value: bson.D{{Key: "$literal", Value: token}}}}
}

func (s *soaker) echo(token string) {
	var found numbered
	id := mathrand.Intn(soakNumbers)
	how := options.FindOne().SetProjection(saying(token))
	try(s.numbers.FindOne(s.ctx, byID(id), how).Decode(&found))
	equal(found, numbered{id, token})
}

func (s *soaker) mustFind(token string, n int) {
	var found mine
	try(s.things.FindOne(s.ctx, key(token)).Decode(&found))
	equal(found, mine{token, n})
}

func (s *soaker) ownDocument(token string) {
	inserted, err := s.things.InsertOne(s.ctx, mine{token, 1})
	try(err)
	equal(inserted.InsertedID, token)
	_, err = s.things.InsertOne(s.ctx, key(token))
	if !mongo.IsDuplicateKeyError(err) {
		try(err)
	}
	equal(err != nil && strings.Contains(err.Error(), token), true)
	s.mustFind(token, 1)
	var before mine
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: 2}}}}
	try(s.things.FindOneAndUpdate(s.ctx, key(token), set).Decode(&before))
	equal(before, mine{token, 1})
	s.mustFind(token, 2)
	_, err = s.things.DeleteOne(s.ctx, key(token))
	try(err)
	err = s.things.FindOne(s.ctx, key(token)).Err()
	if !errors.Is(err, mongo.ErrNoDocuments) {
		try(err)
		panic(fmt.Errorf("%s is there after it was deleted", token))
	}
}

func (s *soaker) cursor(token string) {
	n := mathrand.Intn(10)
	how := options.Find().SetProjection(saying(token)).SetBatchSize(17).SetSort(byID(1))
	cursor, err := s.numbers.Find(s.ctx, bson.D{{Key: "n", Value: n}}, how)
	try(err)
	var found, wanted []numbered
	try(cursor.All(s.ctx, &found))
	for i := n; i < soakNumbers; i += 10 {
		wanted = append(wanted, numbered{i, token})
	}
	equal(found, wanted)
}

func (s *soaker) leftCursor(token string) {
	how := options.Find().SetProjection(saying(token)).SetBatchSize(2)
	cursor, err := s.numbers.Find(s.ctx, bson.D{}, how)
	try(err)
	defer cursor.Close(s.ctx)
	if !cursor.Next(s.ctx) {
		try(cursor.Err())
		panic(errors.New("a cursor without documents"))
	}
	equal(cursor.Current.Lookup("token").StringValue(), token)
}

func (s *soaker) largeDocument(token string) {
	type large struct {
		ID      string `bson:"_id"`
		Content []byte
	}
	some := make([]byte, 1000)
	_, err := rand.Read(some)
	must(err)
	sent := large{token, bytes.Repeat(some, soakLargeBytes/len(some))}
	_, err = s.things.InsertOne(s.ctx, sent)
	try(err)
	var read large
	try(s.things.FindOne(s.ctx, key(token)).Decode(&read))
	equal(read.ID == token && bytes.Equal(read.Content, sent.Content), true)
	_, err = s.things.DeleteOne(s.ctx, key(token))
	try(err)
}

func (s *soaker) transaction(token string) {
	commit := mathrand.Intn(2) == 0
	session, err := s.client.StartSession()
	try(err)
	defer session.EndSession(s.ctx) // aborts what was not committed
	try(session.StartTransaction())
	ctx := mongo.NewSessionContext(s.ctx, session)
	for i := 0; i < 2; i++ {
		document := bson.D{{Key: "_id", Value: fmt.Sprintf("%s-%d", token, i)}, {Key: "by", Value: token}}
		_, err := s.things.InsertOne(ctx, document)
		try(err)
	}
	counted, err := s.things.CountDocuments(ctx, by(token))
	try(err)
	equal(counted, int64(2))
	wanted := int64(0)
	if commit {
		wanted = 2
		try(session.CommitTransaction(s.ctx))
	} else {
		try(session.AbortTransaction(s.ctx))
	}
	counted, err = s.things.CountDocuments(s.ctx, by(token))
	try(err)
	equal(counted, wanted)
	_, err = s.things.DeleteMany(s.ctx, by(token))
	try(err)
}

func (s *soaker) unacknowledged(token string) {
	try(insertUnacknowledged(s.ctx, s.silent, key(token)))
	s.echo(token)
}

// tally is what was done and what errors came.
type tally struct {
	lock   sync.Mutex
	Done   map[string]int `json:"done"`
	Errors map[string]int `json:"errors"`
}

func (t *tally) count(into map[string]int, name string) {
	t.lock.Lock()
	defer t.lock.Unlock()
	into[name]++
}

func (t *tally) tell() {
	t.lock.Lock()
	defer t.lock.Unlock()
	text, err := json.Marshal(t)
	must(err)
	fmt.Printf("tally %s\n", text)
}

func kindOf(err error) string {
	var command mongo.CommandError
	var write mongo.WriteException
	switch {
	case errors.As(err, &command) && command.Code != 0:
		return fmt.Sprint(command.Code)
	case errors.As(err, &write) && len(write.WriteErrors) > 0:
		return fmt.Sprint(write.WriteErrors[0].Code)
	case mongo.IsNetworkError(err):
		return "network"
	case mongo.IsTimeout(err):
		return "timeout"
	}
	return fmt.Sprintf("%T", err)
}

func (t *tally) do(name string, work func(string), token string) {
	defer func() {
		switch reason := recover().(type) {
		case nil:
			t.count(t.Done, name)
		case failed:
			if errors.Is(reason.error, mongo.ErrNoDocuments) {
				fmt.Printf("not ok %s: %s is not there\n", name, token)
			}
			t.count(t.Errors, kindOf(reason.error))
		default:
			fmt.Printf("not ok %s: %s\n", name, strings.ReplaceAll(fmt.Sprintf("%.300v", reason), "\n", " "))
		}
	}()
	work(token)
}

func (s *soaker) goOn(seen *tally, thread string, ended *atomic.Bool) {
	works := []struct {
		name string
		work func(string)
	}{
		{"echo", s.echo}, {"echo", s.echo}, {"echo", s.echo}, {"own_document", s.ownDocument},
		{"cursor", s.cursor}, {"left_cursor", s.leftCursor}, {"large_document", s.largeDocument},
		{"transaction", s.transaction}, {"unacknowledged", s.unacknowledged},
	}
	wanted := " " + os.Getenv("WORK") + " "
	for number := 0; !ended.Load(); number++ {
		one := works[mathrand.Intn(len(works))]
		if wanted != "  " && !strings.Contains(wanted, " "+one.name+" ") {
			continue
		}
		seen.do(one.name, one.work, fmt.Sprintf("%s-%d", thread, number))
	}
}

func soak() {
	client, err := connect(options.Client().ApplyURI(os.Getenv("URI")).SetAppName("soak-go"))
	must(err)
	db := client.Database(os.Getenv("DATABASE"))
	unacknowledged := options.Collection().SetWriteConcern(writeconcern.Unacknowledged())
	s := &soaker{context.Background(), client, db.Collection("numbers"), db.Collection("things"),
		db.Collection("silent", unacknowledged)}
	seen := &tally{Done: map[string]int{}, Errors: map[string]int{}}
	var ended atomic.Bool
	var all sync.WaitGroup
	for i := 0; i < threads(); i++ {
		all.Add(1)
		thread := fmt.Sprintf("go-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), i)
		go func() {
			defer all.Done()
			s.goOn(seen, thread, &ended)
		}()
	}
	go func() {
		for !ended.Load() {
			time.Sleep(tallyEvery)
			seen.tell()
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	ended.Store(true)
	all.Wait()
	client.Disconnect(s.ctx)
	seen.tell()
}
