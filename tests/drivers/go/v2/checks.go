// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"regexp"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

const (
	rounds     = 5
	documents  = 100_000
	largeBytes = 15_000_000
)

type thing struct {
	ID int `bson:"_id"`
	N  int `bson:"n"`
}

type suite struct {
	ctx    context.Context
	client *mongo.Client
	db     *mongo.Database
	corpus *mongo.Database
}

func byID(id int) bson.D { return bson.D{{Key: "_id", Value: id}} }

func increment(n int) bson.D {
	return bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: n}}}}
}

func insert(ctx context.Context, collection *mongo.Collection, document any) {
	_, err := collection.InsertOne(ctx, document)
	must(err)
}

func find(ctx context.Context, collection *mongo.Collection, id int) (found thing) {
	must(collection.FindOne(ctx, byID(id)).Decode(&found))
	return found
}

func count(ctx context.Context, collection *mongo.Collection) int {
	counted, err := collection.CountDocuments(ctx, bson.D{})
	must(err)
	return int(counted)
}

func (s *suite) crud() any {
	things := s.db.Collection("things")
	insert(s.ctx, things, thing{1, 1})
	equal(find(s.ctx, things, 1), thing{1, 1})
	updated, err := things.UpdateOne(s.ctx, byID(1), increment(1))
	must(err)
	equal(updated.ModifiedCount, int64(1))
	upsert := options.Replace().SetUpsert(true)
	replaced, err := things.ReplaceOne(s.ctx, byID(2), bson.D{{Key: "n", Value: 5}}, upsert)
	must(err)
	equal(replaced.UpsertedID, int32(2))
	var before thing
	must(things.FindOneAndUpdate(s.ctx, byID(2), increment(2)).Decode(&before))
	equal(before, thing{2, 5})
	cursor, err := things.Find(s.ctx, bson.D{}, options.Find().SetSort(byID(1)))
	must(err)
	var found []thing
	must(cursor.All(s.ctx, &found))
	equal(found, []thing{{1, 2}, {2, 7}})
	deleted, err := things.DeleteOne(s.ctx, byID(1))
	must(err)
	equal(deleted.DeletedCount, int64(1))
	equal(count(s.ctx, things), 1)
	return nil
}

func (s *suite) bulk10000() any {
	text := string(bytes.Repeat([]byte("x"), 100))
	var all []any
	for i := 0; i < 10_000; i++ {
		all = append(all, bson.D{{Key: "_id", Value: i}, {Key: "text", Value: text}})
	}
	inserted, err := s.db.Collection("bulk").InsertMany(s.ctx, all)
	must(err)
	equal(len(inserted.InsertedIDs), 10_000)
	equal(count(s.ctx, s.db.Collection("bulk")), 10_000)
	return nil
}

func (s *suite) document15MB() any {
	type large struct {
		ID      int `bson:"_id"`
		Content []byte
	}
	some := make([]byte, 1_000)
	_, err := rand.Read(some)
	must(err)
	content := bytes.Repeat(some, largeBytes/len(some))
	insert(s.ctx, s.db.Collection("large"), large{1, content})
	var read large
	must(s.db.Collection("large").FindOne(s.ctx, byID(1)).Decode(&read))
	equal(bytes.Equal(read.Content, content), true)
	return nil
}

func (s *suite) cursor100000() any {
	seen := make([]byte, documents)
	cursor, err := s.corpus.Collection("numbers").Find(s.ctx, bson.D{})
	must(err)
	for cursor.Next(s.ctx) {
		id, _ := cursor.Current.Lookup("_id").AsInt64OK()
		seen[id]++
	}
	must(cursor.Err())
	equal(bytes.Equal(seen, bytes.Repeat([]byte{1}, documents)), true)
	return nil
}

func (s *suite) aggregation() any {
	cursor, err := s.corpus.Collection("few").Aggregate(s.ctx, bson.A{
		bson.M{"$match": bson.M{"_id": bson.M{"$lt": 500}}},
		bson.M{"$group": bson.M{"_id": "$n", "sum": bson.M{"$sum": "$_id"}}},
		bson.M{"$sort": bson.M{"_id": 1}},
	})
	must(err)
	var groups []struct{ Sum int }
	must(cursor.All(s.ctx, &groups))
	equal(len(groups), 10)
	for n, group := range groups {
		equal(group.Sum, 12250+50*n)
	}
	return nil
}

func (s *suite) indexes() any {
	indexed := s.db.Collection("indexed")
	names := func() (names []string) {
		cursor, err := indexed.Indexes().List(s.ctx)
		must(err)
		var all []struct{ Name string }
		must(cursor.All(s.ctx, &all))
		for _, index := range all {
			names = append(names, index.Name)
		}
		return sorted(names)
	}
	insert(s.ctx, indexed, bson.D{{Key: "a", Value: 1}})
	name, err := indexed.Indexes().CreateOne(s.ctx, mongo.IndexModel{
		Keys:    bson.D{{Key: "a", Value: 1}, {Key: "b", Value: -1}},
		Options: options.Index().SetName("by_a"),
	})
	must(err)
	equal(name, "by_a")
	equal(names(), []string{"_id_", "by_a"})
	must(dropIndex(s.ctx, indexed, "by_a"))
	equal(names(), []string{"_id_"})
	return nil
}

func (s *suite) duplicateKey() any {
	insert(s.ctx, s.db.Collection("unique"), byID(1))
	_, err := s.db.Collection("unique").InsertOne(s.ctx, byID(1))
	return describe(err)
}

func (s *suite) badCommand() any {
	things := s.db.Collection("things")
	badFilter := bson.M{"n": bson.M{"$noSuchOperator": 1}}
	_, badStage := things.Aggregate(s.ctx, bson.A{bson.M{"$noSuchStage": bson.M{}}})
	return []told{
		describe(s.db.RunCommand(s.ctx, bson.M{"noSuchCommand": 1}).Err()),
		describe(things.FindOne(s.ctx, badFilter).Err()),
		describe(badStage),
	}
}

// transaction starts a session with a transaction; end frees it.
func (s *suite) transaction() (inside context.Context, end func(commit bool)) {
	session, err := s.client.StartSession()
	must(err)
	must(session.StartTransaction())
	return mongo.NewSessionContext(s.ctx, session), func(commit bool) {
		defer session.EndSession(s.ctx)
		if commit {
			must(session.CommitTransaction(s.ctx))
		} else {
			must(session.AbortTransaction(s.ctx))
		}
	}
}

func (s *suite) transactionCommit() any {
	need("transactions")
	must(s.db.CreateCollection(s.ctx, "committed"))
	committed := s.db.Collection("committed")
	inside, end := s.transaction()
	insert(inside, committed, byID(1))
	insert(inside, committed, byID(2))
	equal(count(s.ctx, committed), 0)
	equal(count(inside, committed), 2)
	end(true)
	equal(count(s.ctx, committed), 2)
	return nil
}

func (s *suite) transactionAbort() any {
	need("transactions")
	aborted := s.db.Collection("aborted")
	insert(s.ctx, aborted, thing{1, 0})
	first, endFirst := s.transaction()
	_, err := aborted.UpdateOne(first, byID(1), increment(1))
	must(err)
	second, endSecond := s.transaction()
	_, err = aborted.UpdateOne(second, byID(1), increment(2))
	conflict := describe(err)
	endSecond(false)
	endFirst(false)
	equal(find(s.ctx, aborted, 1), thing{1, 0})
	return bson.M{"code": conflict.Code, "labels": conflict.Labels}
}

func (s *suite) changeStream() any {
	need("change_streams")
	must(s.db.CreateCollection(s.ctx, "watched"))
	watched := s.db.Collection("watched")
	wait := options.ChangeStream().SetMaxAwaitTime(500 * time.Millisecond)
	stream, err := watched.Watch(s.ctx, mongo.Pipeline{}, wait)
	must(err)
	insert(s.ctx, watched, thing{1, 7})
	equal(stream.Next(s.ctx), true)
	var change struct {
		OperationType string `bson:"operationType"`
		FullDocument  thing  `bson:"fullDocument"`
	}
	must(stream.Decode(&change))
	must(stream.Close(s.ctx))
	equal(change.OperationType, "insert")
	equal(change.FullDocument, thing{1, 7})
	return nil
}

func (s *suite) unacknowledgedWrite() any {
	need("unacknowledged_writes")
	alone, err := connect(options.Client().ApplyURI(os.Getenv("URI")).SetMaxPoolSize(1))
	must(err)
	defer alone.Disconnect(s.ctx)
	acknowledged := alone.Database(s.db.Name()).Collection("silent")
	silent := alone.Database(s.db.Name()).Collection("silent",
		options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
	for _, i := range []int{1, 2, 2, 3} { // the second 2 is an error that nobody hears of
		must(insertUnacknowledged(s.ctx, silent, thing{i, i}))
	}
	deadline := time.Now().Add(5 * time.Second)
	for count(s.ctx, acknowledged) < 3 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	for i := 0; i < 15; i++ {
		equal(find(s.ctx, acknowledged, i%3+1), thing{i%3 + 1, i%3 + 1})
	}
	return nil
}

func (s *suite) killedCursor() any {
	few := s.corpus.Collection("few")
	cursor, err := few.Find(s.ctx, bson.D{}, options.Find().SetBatchSize(2))
	must(err)
	equal(cursor.Next(s.ctx), true)
	getMore := bson.D{{Key: "getMore", Value: cursor.ID()}, {Key: "collection", Value: "few"}}
	must(cursor.Close(s.ctx))
	failure := describe(s.corpus.RunCommand(s.ctx, getMore).Err())
	equal(failure.Code, 43)
	failure.Message = regexp.MustCompile(`\d{5,}`).ReplaceAllString(failure.Message, "N")
	return failure
}

// As many at a time as the client has connections, each reading its own writes.
func (s *suite) parallelSessions() any {
	parallel := s.db.Collection("parallel")
	failures := make(chan any, threads())
	var working sync.WaitGroup
	for number := 0; number < threads(); number++ {
		working.Add(1)
		go func(number int) {
			defer working.Done()
			defer func() {
				if reason := recover(); reason != nil {
					failures <- reason
				}
			}()
			s.readOwnWrites(parallel, number)
		}(number)
	}
	working.Wait()
	close(failures)
	equal(<-failures, nil)
	equal(count(s.ctx, parallel), threads()*rounds)
	return nil
}

func (s *suite) readOwnWrites(parallel *mongo.Collection, number int) {
	session, err := s.client.StartSession(options.Session().SetCausalConsistency(true))
	must(err)
	defer session.EndSession(s.ctx)
	inside := mongo.NewSessionContext(s.ctx, session)
	for i := 0; i < rounds; i++ {
		id := number*rounds + i
		insert(inside, parallel, thing{id, 0})
		_, err := parallel.UpdateOne(inside, byID(id), increment(1))
		must(err)
		equal(find(inside, parallel, id), thing{id, 1})
	}
}

func check() {
	most := uint64(threads())
	client, err := connect(options.Client().ApplyURI(os.Getenv("URI")).SetMaxPoolSize(most))
	must(err)
	ctx := context.Background()
	defer client.Disconnect(ctx)
	s := &suite{ctx, client, client.Database(os.Getenv("DATABASE")), client.Database("corpus")}
	must(s.db.Drop(ctx))
	run("crud", s.crud)
	run("bulk_10000", s.bulk10000)
	run("document_15mb", s.document15MB)
	run("cursor_100000", s.cursor100000)
	run("aggregation", s.aggregation)
	run("indexes", s.indexes)
	run("duplicate_key", s.duplicateKey)
	run("bad_command", s.badCommand)
	run("transaction_commit", s.transactionCommit)
	run("transaction_abort", s.transactionAbort)
	run("change_stream", s.changeStream)
	run("unacknowledged_write", s.unacknowledgedWrite)
	run("killed_cursor", s.killedCursor)
	run("parallel_sessions", s.parallelSessions)
	must(s.db.Drop(ctx))
}
