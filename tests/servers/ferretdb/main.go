// SPDX-License-Identifier: Apache-2.0

// Runs FerretDB with SQLite files as a server for weir's tests. It has no authentication and no
// replica set; SIGTERM ends it.
package main

import (
	"context"
	"flag"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	address := flag.String("address", "127.0.0.1:27017", "where to listen")
	directory := flag.String("directory", "", "where the SQLite files go; it must exist")
	tls := flag.String("tls", "", "a PEM file with key and certificate: listen with TLS")
	flag.Parse()
	if *directory == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	files, err := filepath.Abs(*directory)
	if err != nil {
		log.Fatal(err)
	}

	listener := ferretdb.ListenerConfig{TCP: *address}
	if *tls != "" {
		listener = ferretdb.ListenerConfig{TLS: *address, TLSCertFile: *tls, TLSKeyFile: *tls}
	}
	warnings := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  listener,
		Logger:    slog.New(warnings),
		Handler:   "sqlite",
		SQLiteURL: "file:" + files + "/",
	})
	if err != nil {
		log.Fatal(err)
	}

	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := server.Run(stopped); err != nil {
		log.Fatal(err)
	}
}
