// SPDX-License-Identifier: Apache-2.0

// snaps calls a snapshotter from tests/system: one RPC, many of them, or as a peer of ill will. What
// was acknowledged is printed as "NAME" or, after a remove, "-NAME"; `check` compares that with List.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	snapshots "github.com/containerd/containerd/api/services/snapshots/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

const usage = `usage: snaps SOCKET COMMAND
  prepare KEY [PARENT] | commit NAME KEY | remove KEY | stat KEY | list | unknown
  fill PREFIX N LABEL_BYTES   N times prepare and commit, until the first error
  load PREFIX SECONDS         prepare, commit, remove, 8 at a time; errors are counted
  check                       what stdin says was acknowledged, against List
  garbage | silent | idle N | streams N
  notify                      prints the datagrams that come to SOCKET
  activate PROGRAM ARGUMENT…  runs it with SOCKET, as systemd would`

type client struct {
	snapshots.SnapshotsClient
	cc *grpc.ClientConn
}

func check(err error) {
	if err != nil {
		s := status.Convert(err)
		fmt.Fprintf(os.Stderr, "%s: %s\n", s.Code(), s.Message())
		os.Exit(1)
	}
}

func dial(socket string) client {
	cc, err := grpc.Dial("localhost", grpc.WithInsecure(), grpc.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}))
	check(err)
	return client{snapshots.NewSnapshotsClient(cc), cc}
}

func soon() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), 20*time.Second) //nolint:govet
	return ctx
}

func (c client) prepare(key, parent string, labels map[string]string) error {
	_, err := c.Prepare(soon(), &snapshots.PrepareSnapshotRequest{Key: key, Parent: parent, Labels: labels},
		grpc.WaitForReady(true))
	return err
}

func (c client) commit(name, key string, labels map[string]string) error {
	_, err := c.Commit(soon(), &snapshots.CommitSnapshotRequest{Name: name, Key: key, Labels: labels},
		grpc.WaitForReady(true))
	return err
}

func (c client) remove(key string) error {
	_, err := c.Remove(soon(), &snapshots.RemoveSnapshotRequest{Key: key}, grpc.WaitForReady(true))
	return err
}

func (c client) list() []string {
	var names []string
	s, err := c.List(soon(), &snapshots.ListSnapshotsRequest{}, grpc.WaitForReady(true))
	check(err)
	for {
		r, err := s.Recv()
		if err == io.EOF {
			sort.Strings(names)
			return names
		}
		check(err)
		for _, i := range r.Info {
			names = append(names, i.Name)
		}
	}
}

// say prints what was acknowledged. Of a change whose answer was an error the outcome is open: then
// its names are said to be so ("?NAME").
func say(err error, names ...string) error {
	for _, s := range names {
		if err != nil {
			s = "?" + strings.TrimPrefix(s, "-")
		}
		fmt.Println(s)
	}
	return err
}

func (c client) fill(prefix string, n, labelBytes int) {
	labels := map[string]string{}
	if labelBytes > 0 {
		labels["containerd.io/snapshot/test"] = strings.Repeat("v", labelBytes)
	}
	for i := 0; i < n; i++ {
		name := prefix + strconv.Itoa(i)
		check(say(c.prepare("active-"+name, "", labels), "active-"+name))
		check(say(c.commit(name, "active-"+name, labels), "-active-"+name, name))
	}
}

// load is a client that does not give up.
func (c client) load(prefix string, seconds int) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	acks, errs := 0, 0
	count := func(err error, names ...string) error {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs++
		} else {
			acks++
		}
		return say(err, names...)
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	for w := 0; w < 8; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; time.Now().Before(until); i++ {
				name := fmt.Sprintf("%s%d-%d", prefix, w, i)
				err := count(c.prepare("active-"+name, "", nil), "active-"+name)
				if err == nil {
					err = count(c.commit(name, "active-"+name, nil), name, "-active-"+name)
				}
				if err == nil && i%4 == 0 {
					count(c.remove(name), "-"+name)
				}
				if err != nil {
					time.Sleep(20 * time.Millisecond)
				}
			}
		}(w)
	}
	wg.Wait()
	fmt.Fprintf(os.Stderr, "%d acknowledged, %d errors\n", acks, errs)
}

func (c client) check(in io.Reader) {
	want := map[string]bool{}
	open := map[string]bool{}
	for scan := bufio.NewScanner(in); scan.Scan(); {
		switch s := scan.Text(); s[0] {
		case '-':
			want[s[1:]] = false
		case '?':
			open[s[1:]] = true
		default:
			want[s] = true
		}
	}
	have := map[string]bool{}
	for _, name := range c.list() {
		have[name] = true
		if _, known := want[name]; !known && !open[name] {
			log.Fatalf("FAILED: %s is there and nobody made it", name)
		}
	}
	n := 0
	for name, w := range want {
		if open[name] {
			continue
		}
		n++
		if have[name] != w {
			log.Fatalf("FAILED: %s: acknowledged as there: %v, is there: %v", name, w, have[name])
		}
	}
	fmt.Fprintf(os.Stderr, "%d names are as acknowledged, %d are there\n", n, len(have))
}

func main() {
	log.SetFlags(0)
	args := os.Args[1:]
	arg := func(i int) string {
		if i >= len(args) {
			log.Fatal(usage)
		}
		return args[i]
	}
	num := func(i int) int {
		n, err := strconv.Atoi(arg(i))
		check(err)
		return n
	}
	socket, command := arg(0), arg(1)
	c := dial(socket)
	switch command {
	case "prepare":
		parent := ""
		if len(args) > 3 {
			parent = args[3]
		}
		check(say(c.prepare(arg(2), parent, nil), arg(2)))
	case "commit":
		check(say(c.commit(arg(2), arg(3), nil), arg(2), "-"+arg(3)))
	case "remove":
		check(say(c.remove(arg(2)), "-"+arg(2)))
	case "stat":
		_, err := c.Stat(soon(), &snapshots.StatSnapshotRequest{Key: arg(2)}, grpc.WaitForReady(true))
		check(err)
	case "list":
		for _, name := range c.list() {
			fmt.Println(name)
		}
	case "unknown":
		check(c.cc.Invoke(soon(), "/containerd.services.snapshots.v1.Snapshots/Explode",
			&snapshots.StatSnapshotRequest{}, &snapshots.StatSnapshotRequest{}, grpc.WaitForReady(true)))
	case "fill":
		c.fill(arg(2), num(3), num(4))
	case "load":
		c.load(arg(2), num(3))
	case "check":
		c.check(os.Stdin)
	case "garbage":
		garbage(socket)
	case "silent":
		silent(socket)
	case "idle":
		idle(socket, num(2))
	case "streams":
		streams(socket, num(2))
	case "activate":
		arg(2)
		activate(socket, args[2:])
	case "notify":
		notify(socket)
	default:
		log.Fatal(usage)
	}
}
