// SPDX-License-Identifier: Apache-2.0

// Package suite runs containerd's own snapshotter suite against a server that runs already.
// The environment says which one:
//
//	FL_ADDRESS=SOCKET                             a snapshots service, spoken to directly
//	CONTAINERD_ADDRESS=SOCKET SNAPSHOTTER=NAME    a snapshotter behind a containerd
//
// Run it as root with -test.root, and with TMPDIR on a file system that can hold overlay's
// upper directories: this process itself mounts what Mounts answers.
package suite

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/containerd"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

// The namespace that the suite puts into its own calls.
const namespace = "testsuite"

const dialTimeout = 10 * time.Second

// dialServer answers the snapshotter under test on a connection of its own, and how to close it.
func dialServer() (snapshots.Snapshotter, func() error, error) {
	name := os.Getenv("SNAPSHOTTER")
	if name == "" {
		name = "firstlight"
	}
	if address := os.Getenv("FL_ADDRESS"); address != "" {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
		defer cancel()
		conn, err := grpc.DialContext(ctx, "unix://"+address, grpc.WithInsecure(), grpc.WithBlock())
		if err != nil {
			return nil, nil, fmt.Errorf("dial %s: %w", address, err)
		}
		return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), name), conn.Close, nil
	}
	if address := os.Getenv("CONTAINERD_ADDRESS"); address != "" {
		client, err := containerd.New(address, containerd.WithTimeout(dialTimeout))
		if err != nil {
			return nil, nil, fmt.Errorf("dial containerd at %s: %w", address, err)
		}
		return client.SnapshotService(name), client.Close, nil
	}
	return nil, nil, fmt.Errorf("set FL_ADDRESS or CONTAINERD_ADDRESS")
}

// The suite clears the umask, but its parallel tests start only after it has put the old one
// back. Clear it for the whole process, as was meant.
func TestMain(m *testing.M) {
	syscall.Umask(0)
	os.Exit(m.Run())
}

// TestSuite is the suite itself. Its tests run at the same time and share the one server, so
// the root directory that each gets is not used, and Close closes a client only.
func TestSuite(t *testing.T) {
	testutil.RequiresRoot(t)
	connect := func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		return dialServer()
	}
	testsuite.SnapshotterSuite(t, "firstlight", connect)
}

// TestRemoveAll runs last and removes what the suite left behind. A snapshot that has children
// must refuse; one without must go; nothing may stay.
func TestRemoveAll(t *testing.T) {
	testutil.RequiresRoot(t)
	ctx := namespaces.WithNamespace(context.Background(), namespace)
	sn, closeServer, err := dialServer()
	if err != nil {
		t.Fatal(err)
	}
	defer closeServer()

	infos := listAll(ctx, t, sn)
	parent := make(map[string]string)
	children := make(map[string]int)
	for _, info := range infos {
		parent[info.Name] = info.Parent
		children[info.Parent]++
	}
	var leaves []string
	for _, info := range infos {
		if children[info.Name] == 0 {
			leaves = append(leaves, info.Name)
		} else if err := sn.Remove(ctx, info.Name); !errdefs.IsFailedPrecondition(err) {
			t.Fatalf("remove %q, which has children: want failed precondition, got %v", info.Name, err)
		}
	}
	for len(leaves) > 0 {
		name := leaves[len(leaves)-1]
		leaves = leaves[:len(leaves)-1]
		if err := sn.Remove(ctx, name); err != nil {
			t.Fatalf("remove %q: %v", name, err)
		}
		children[parent[name]]--
		if parent[name] != "" && children[parent[name]] == 0 {
			leaves = append(leaves, parent[name])
		}
	}
	if left := listAll(ctx, t, sn); len(left) != 0 {
		t.Fatalf("%d of %d snapshots are still listed", len(left), len(infos))
	}
	t.Logf("removed %d snapshots", len(infos))
}

func listAll(ctx context.Context, t *testing.T, sn snapshots.Snapshotter) []snapshots.Info {
	var infos []snapshots.Info
	err := sn.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
		infos = append(infos, info)
		return nil
	})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return infos
}
