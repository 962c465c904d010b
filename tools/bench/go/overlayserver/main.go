// SPDX-License-Identifier: Apache-2.0

// Command overlayserver serves containerd's own overlay snapshotter through the snapshots gRPC API
// on a unix socket. It is the peer that firstlight is measured against, and the reference that the
// tests of the API are tried on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/overlay"
	"github.com/containerd/containerd/snapshots/storage"
	"google.golang.org/grpc"
)

const messageSizeMax = 16 << 20 // containerd's own limit, both ways

// fillDepth is the length of a chain of the snapshots that --fill makes.
const fillDepth = 10

// fillBatch is how many snapshots one transaction makes; whole chains. bbolt inserts into an
// unsplit node until the commit, so much larger ones are slower.
const fillBatch = 1000

func main() {
	root := flag.String("root", "", "data directory")
	address := flag.String("address", "", "unix socket to serve")
	fillCount := flag.Int("fill", 0, "first put this many committed snapshots into the database")
	flag.Parse()
	if *root == "" || *address == "" || flag.NArg() != 0 {
		fmt.Fprintln(os.Stderr, "usage: overlayserver --root DIR --address SOCKET [--fill N]")
		os.Exit(2)
	}
	if err := run(*root, *address, *fillCount); err != nil {
		fmt.Fprintln(os.Stderr, "overlayserver:", err)
		os.Exit(1)
	}
}

func run(root, address string, fillCount int) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)

	if fillCount > 0 {
		if err := fill(root, fillCount); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
	}
	sn, err := overlay.NewSnapshotter(root)
	if err != nil {
		return err
	}
	defer sn.Close()

	if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(messageSizeMax), grpc.MaxSendMsgSize(messageSizeMax))
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(sn))

	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	fmt.Fprintln(os.Stderr, "overlayserver: ready")
	select {
	case err := <-served:
		return err
	case <-stop:
		server.Stop() // closes the connections; calls that run are waited for by Close
		return <-served
	}
}

// fill writes count committed snapshots, in chains of fillDepth, straight into the snapshotter's
// database, many in a transaction. Through the API this would take minutes, because every change is
// a synced transaction of its own.
func fill(root string, count int) error {
	dir := filepath.Join(root, "snapshots")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ms, err := storage.NewMetaStore(filepath.Join(root, "metadata.db"))
	if err != nil {
		return err
	}
	defer ms.Close()
	for from := 0; from < count; from += fillBatch {
		to := from + fillBatch
		if to > count {
			to = count
		}
		if err := fillRange(ms, dir, from, to); err != nil {
			return err
		}
	}
	return nil
}

// fillRange makes the snapshots numbered from (the start of a chain) up to, not including, to.
func fillRange(ms *storage.MetaStore, dir string, from, to int) error {
	ctx, t, err := ms.TransactionContext(context.Background(), true)
	if err != nil {
		return err
	}
	parent := ""
	for i := from; i < to; i++ {
		if i%fillDepth == 0 {
			parent = ""
		}
		if parent, err = fillOne(ctx, dir, parent, i); err != nil {
			t.Rollback()
			return err
		}
	}
	return t.Commit()
}

func fillOne(ctx context.Context, dir, parent string, i int) (string, error) {
	ref := fmt.Sprintf("sha256:%064x", i)
	name := fmt.Sprintf("default/%d/%s", 2*i+2, ref)
	key := fmt.Sprintf("default/%d/extract-%09d-fill %s", 2*i+1, i, ref)
	labels := snapshots.WithLabels(map[string]string{"containerd.io/snapshot.ref": ref})

	s, err := storage.CreateSnapshot(ctx, snapshots.KindActive, key, parent, labels)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(dir, s.ID, "fs"), 0o755); err != nil {
		return "", err
	}
	if err := os.Mkdir(filepath.Join(dir, s.ID, "work"), 0o711); err != nil {
		return "", err
	}
	usage := snapshots.Usage{Inodes: 1, Size: 4096}
	_, err = storage.CommitActive(ctx, key, name, usage, labels)
	return name, err
}
