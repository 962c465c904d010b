// SPDX-License-Identifier: Apache-2.0

// viewmount mounts an image's whole tree read-only: a View of its top layer on the snapshotter
// asked for, mounted by containerd's own mount package. ("ctr image mount" of containerd 1.6
// takes its --snapshotter and then uses overlayfs all the same.)
//
//	viewmount -address SOCKET -snapshotter NAME IMAGE TARGET
//	viewmount -address SOCKET -snapshotter NAME -u TARGET
//
// With -rw it is what a container has: prepared above the top layer, and writable.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/opencontainers/image-spec/identity"
)

const timeout = 60 * time.Second

func main() {
	address := flag.String("address", "", "containerd's `socket`")
	snapshotter := flag.String("snapshotter", "overlayfs", "its `name`")
	writable := flag.Bool("rw", false, "a snapshot to write to, no view")
	unmount := flag.Bool("u", false, "unmount TARGET and remove its view")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ctx = namespaces.WithNamespace(ctx, namespaces.Default)
	client, err := containerd.New(*address, containerd.WithTimeout(timeout))
	switch {
	case err != nil:
	case *unmount && flag.NArg() == 1:
		err = unmountView(ctx, client.SnapshotService(*snapshotter), flag.Arg(0))
	case !*unmount && flag.NArg() == 2:
		err = mountView(ctx, client, *snapshotter, flag.Arg(0), flag.Arg(1), *writable)
	default:
		err = errors.New("wrong arguments, see the head of its source")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "viewmount:", err)
		os.Exit(1)
	}
}

// mountView names the view after the target. Garbage collection must leave it alone.
func mountView(ctx context.Context, client *containerd.Client, name, ref, target string, writable bool) error {
	image, err := client.GetImage(ctx, ref)
	if err != nil {
		return fmt.Errorf("image %s: %w", ref, err)
	}
	diffIDs, err := image.RootFS(ctx)
	if err != nil {
		return fmt.Errorf("layers of %s: %w", ref, err)
	}
	sn := client.SnapshotService(name)
	root := snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339),
	})
	snapshot := sn.View
	if writable {
		snapshot = sn.Prepare
	}
	mounts, err := snapshot(ctx, target, identity.ChainID(diffIDs).String(), root)
	if err != nil {
		return fmt.Errorf("snapshot on %s: %w", name, err)
	}
	if err := mount.All(mounts, target); err != nil {
		_ = sn.Remove(ctx, target)
		return fmt.Errorf("mount %v: %w", mounts, err)
	}
	return nil
}

func unmountView(ctx context.Context, sn snapshots.Snapshotter, target string) error {
	if err := mount.UnmountAll(target, 0); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	return sn.Remove(ctx, target)
}
