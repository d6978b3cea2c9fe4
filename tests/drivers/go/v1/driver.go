// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

// Where version 1 of the driver is another than version 2: ../v2/driver.go has the same functions,
// and all else is version 2's program with version 1's import paths.

func connect(how *options.ClientOptions) (*mongo.Client, error) {
	return mongo.Connect(context.Background(), how)
}

func dropIndex(ctx context.Context, collection *mongo.Collection, name string) error {
	_, err := collection.Indexes().DropOne(ctx, name)
	return err
}

func insertUnacknowledged(ctx context.Context, silent *mongo.Collection, document any) error {
	_, err := silent.InsertOne(ctx, document)
	if errors.Is(err, mongo.ErrUnacknowledgedWrite) {
		return nil
	}
	return fmt.Errorf("an acknowledged write, with %v", err)
}
