// SPDX-License-Identifier: Apache-2.0

// snapcall makes one call to a snapshots service, for scripts.
//
//	snapcall SOCKET prepare|view KEY PARENT [LABEL=VALUE...]   prints the mounts
//	snapcall SOCKET mounts KEY                                 prints the mounts
//	snapcall SOCKET mount KEY TARGET                           mounts them as containerd does
//	snapcall SOCKET commit NAME KEY [LABEL=VALUE...]
//	snapcall SOCKET usage KEY                                  prints size and inodes
//	snapcall SOCKET remove KEY
//
// A mount is a line "type source option,option". An empty PARENT is none. A refused call is an exit
// status of 1 and "CODE: message" on stderr.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const timeout = 60 * time.Second

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %v\n", status.Code(errdefs.ToGRPC(err)), err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("too few arguments, see the head of its source")
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := grpc.DialContext(ctx, "unix://"+args[0], grpc.WithInsecure(), grpc.WithBlock())
	if err != nil {
		return err
	}
	defer conn.Close()
	sn := proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "test")
	return call(ctx, sn, args[1], args[2:])
}

func call(ctx context.Context, sn snapshots.Snapshotter, verb string, args []string) error {
	// Every verb with a second argument, and the labels behind it.
	second, labels := "", map[string]string{}
	if len(args) > 1 {
		second = args[1]
		for _, a := range args[2:] {
			key, value, _ := strings.Cut(a, "=")
			labels[key] = value
		}
	}
	var mounts []mount.Mount
	var err error
	switch verb {
	case "prepare":
		mounts, err = sn.Prepare(ctx, args[0], second, snapshots.WithLabels(labels))
	case "view":
		mounts, err = sn.View(ctx, args[0], second, snapshots.WithLabels(labels))
	case "mounts":
		mounts, err = sn.Mounts(ctx, args[0])
	case "mount":
		if mounts, err = sn.Mounts(ctx, args[0]); err == nil {
			return mount.All(mounts, second)
		}
	case "commit":
		return sn.Commit(ctx, args[0], second, snapshots.WithLabels(labels))
	case "usage":
		var u snapshots.Usage
		if u, err = sn.Usage(ctx, args[0]); err == nil {
			fmt.Println(u.Size, u.Inodes)
		}
	case "remove":
		return sn.Remove(ctx, args[0])
	default:
		err = fmt.Errorf("unknown verb %q", verb)
	}
	for _, m := range mounts {
		fmt.Println(m.Type, m.Source, strings.Join(m.Options, ","))
	}
	return err
}
