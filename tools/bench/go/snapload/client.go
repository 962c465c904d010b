// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const (
	messageSizeMax = 16 << 20
	refLabel       = "containerd.io/snapshot.ref"
	snapshotter    = "bench"
)

// client makes calls and remembers how long each took. One goroutine uses it.
type client struct {
	api     snapshotsapi.SnapshotsClient
	timeout time.Duration
	record  bool
	samples map[string][]time.Duration
	errors  map[string]int
	first   error // the first failure, for people
}

func dial(address string) (*grpc.ClientConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return grpc.DialContext(ctx, address, grpc.WithInsecure(), grpc.WithBlock(),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageSizeMax),
			grpc.MaxCallSendMsgSize(messageSizeMax)))
}

// dialClients makes the clients, on one connection or on one each.
func dialClients(o options, count int) ([]*client, func(), error) {
	var conns []*grpc.ClientConn
	closeAll := func() {
		for _, c := range conns {
			c.Close()
		}
	}
	clients := make([]*client, count)
	for i := range clients {
		if i == 0 || o.conns == "own" {
			conn, err := dial(o.address)
			if err != nil {
				closeAll()
				return nil, nil, fmt.Errorf("connect to %s: %w", o.address, err)
			}
			conns = append(conns, conn)
		}
		clients[i] = &client{
			api:     snapshotsapi.NewSnapshotsClient(conns[len(conns)-1]),
			timeout: o.timeout,
			record:  true,
			samples: map[string][]time.Duration{},
			errors:  map[string]int{},
		}
	}
	return clients, closeAll, nil
}

func (c *client) add(name string, d time.Duration) {
	if c.record {
		c.samples[name] = append(c.samples[name], d)
	}
}

// call runs one RPC under the deadline, times it, and counts a failure under its code.
func (c *client) call(name string, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	start := time.Now()
	err := fn(ctx)
	if err != nil {
		c.errors[name+" "+status.Code(err).String()]++
		if c.first == nil {
			c.first = fmt.Errorf("%s: %w", name, err)
		}
		return err
	}
	c.add(name, time.Since(start))
	return nil
}

func (c *client) prepare(key, parent string, labels map[string]string) error {
	_, err := c.prepareMounts(key, parent, labels)
	return err
}

func (c *client) prepareMounts(key, parent string, labels map[string]string) (mounts []*types.Mount, err error) {
	err = c.call("Prepare", func(ctx context.Context) error {
		r, err := c.api.Prepare(ctx, &snapshotsapi.PrepareSnapshotRequest{
			Snapshotter: snapshotter, Key: key, Parent: parent, Labels: labels})
		if err == nil {
			mounts = r.Mounts
		}
		return err
	})
	return mounts, err
}

// use leaves in the directories of a prepared snapshot what a mount and one new file leave there.
func use(mounts []*types.Mount) error {
	done := 0
	for _, m := range mounts {
		for _, option := range m.Options {
			key, dir, _ := strings.Cut(option, "=")
			var err error
			switch key {
			case "upperdir":
				err = os.WriteFile(filepath.Join(dir, "file"), make([]byte, 4096), 0o644)
			case "workdir":
				err = os.Mkdir(filepath.Join(dir, "work"), 0)
			default:
				continue
			}
			if err != nil {
				return err
			}
			done++
		}
	}
	if done != 2 {
		return fmt.Errorf("no overlay mount: %v", mounts)
	}
	return nil
}

func (c *client) view(key, parent string) error {
	return c.call("View", func(ctx context.Context) error {
		_, err := c.api.View(ctx, &snapshotsapi.ViewSnapshotRequest{
			Snapshotter: snapshotter, Key: key, Parent: parent})
		return err
	})
}

func (c *client) mounts(key string) error {
	return c.call("Mounts", func(ctx context.Context) error {
		_, err := c.api.Mounts(ctx, &snapshotsapi.MountsRequest{Snapshotter: snapshotter, Key: key})
		return err
	})
}

func (c *client) commit(name, key string, labels map[string]string) error {
	return c.call("Commit", func(ctx context.Context) error {
		_, err := c.api.Commit(ctx, &snapshotsapi.CommitSnapshotRequest{
			Snapshotter: snapshotter, Name: name, Key: key, Labels: labels})
		return err
	})
}

func (c *client) remove(key string) error { return c.removeAs("Remove", key) }

func (c *client) removeAs(what, key string) error {
	return c.call(what, func(ctx context.Context) error {
		_, err := c.api.Remove(ctx, &snapshotsapi.RemoveSnapshotRequest{
			Snapshotter: snapshotter, Key: key})
		return err
	})
}

func (c *client) stat(key string) error {
	return c.call("Stat", func(ctx context.Context) error {
		_, err := c.api.Stat(ctx, &snapshotsapi.StatSnapshotRequest{
			Snapshotter: snapshotter, Key: key})
		return err
	})
}

// list reads a whole List answer and returns how many snapshots it held.
func (c *client) list(what string, filters ...string) (count int, err error) {
	err = c.call(what, func(ctx context.Context) error {
		stream, err := c.api.List(ctx, &snapshotsapi.ListSnapshotsRequest{
			Snapshotter: snapshotter, Filters: filters})
		if err != nil {
			return err
		}
		for {
			block, err := stream.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			count += len(block.Info)
		}
	})
	return count, err
}
