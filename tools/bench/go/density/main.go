// SPDX-License-Identifier: Apache-2.0

// density has many containers at once, without runc and its shim, which cost the same on every
// snapshotter: each is a snapshot prepared and mounted, and a shell in it that has written a file and
// waits.
//
//	density -address SOCKET -snapshotter NAME -dir DIRECTORY -counts 1,10,100 IMAGE...
//
// When there are as many as a count says (the images in turn), it prints a line of JSON, and goes on
// when it has read a line. In the end, or when its input ends, all are removed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/opencontainers/image-spec/identity"
)

const script = `echo here >/started && /bin/ls /usr/bin >/dev/null && echo started && read wait`

type container struct {
	key, dir string
	process  *exec.Cmd
	input    io.Closer
}

type density struct {
	sn     snapshots.Snapshotter
	dir    string
	chains []string
	all    []*container
}

func main() {
	address := flag.String("address", "", "containerd's `socket`")
	snapshotter := flag.String("snapshotter", "overlayfs", "its `name`")
	dir := flag.String("dir", "", "where they are mounted")
	counts := flag.String("counts", "1", "`numbers` of containers to stop at, with commas")
	flag.Parse()
	if err := run(*address, *snapshotter, *dir, *counts, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "density:", err)
		os.Exit(1)
	}
}

func run(address, snapshotter, dir, counts string, images []string) (err error) {
	if dir == "" || len(images) == 0 {
		return errors.New("wrong arguments, see the head of its source")
	}
	ctx := namespaces.WithNamespace(context.Background(), namespaces.Default)
	client, err := containerd.New(address, containerd.WithTimeout(30*time.Second))
	if err != nil {
		return err
	}
	defer client.Close()
	d := &density{sn: client.SnapshotService(snapshotter), dir: dir}
	for _, ref := range images {
		image, err := client.GetImage(ctx, ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", ref, err)
		}
		diffIDs, err := image.RootFS(ctx)
		if err != nil {
			return fmt.Errorf("layers of %s: %w", ref, err)
		}
		d.chains = append(d.chains, identity.ChainID(diffIDs).String())
	}
	defer func() {
		if e := d.removeAll(ctx); err == nil {
			err = e
		}
	}()
	return d.stages(ctx, strings.Split(counts, ","), bufio.NewReader(os.Stdin))
}

func (d *density) stages(ctx context.Context, counts []string, more *bufio.Reader) error {
	for _, text := range counts {
		n, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		start, before := time.Now(), len(d.all)
		for len(d.all) < n {
			if err := d.add(ctx); err != nil {
				return fmt.Errorf("container %d: %w", len(d.all), err)
			}
		}
		told, err := json.Marshal(map[string]any{"containers": n, "images": len(d.chains),
			"rate": float64(n-before) / time.Since(start).Seconds()})
		if err != nil {
			return err
		}
		fmt.Println(string(told))
		if _, err := more.ReadString('\n'); err != nil {
			return nil
		}
	}
	return nil
}

// add makes the next container; what it has made is removed in the end, whether or not it has started.
func (d *density) add(ctx context.Context) error {
	i := len(d.all)
	c := &container{key: fmt.Sprintf("density-%d", i), dir: filepath.Join(d.dir, strconv.Itoa(i))}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	root := snapshots.WithLabels(map[string]string{
		"containerd.io/gc.root": time.Now().UTC().Format(time.RFC3339),
	})
	mounts, err := d.sn.Prepare(ctx, c.key, d.chains[i%len(d.chains)], root)
	if err != nil {
		return err
	}
	d.all = append(d.all, c)
	if err := mount.All(mounts, c.dir); err != nil {
		return fmt.Errorf("mount %v: %w", mounts, err)
	}
	return c.start()
}

func (c *container) start() error {
	c.process = exec.Command("/bin/sh", "-c", script)
	c.process.Env = []string{"PATH=/bin:/usr/bin"}
	c.process.SysProcAttr = &syscall.SysProcAttr{Chroot: c.dir, Pdeathsig: syscall.SIGKILL}
	c.process.Dir = "/"
	c.process.Stderr = os.Stderr
	input, err := c.process.StdinPipe()
	if err != nil {
		return err
	}
	c.input = input
	output, err := c.process.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.process.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(output).ReadString('\n')
	return err
}

func (d *density) removeAll(ctx context.Context) (first error) {
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, c := range d.all {
		if c.input != nil {
			c.input.Close()
			_ = c.process.Wait() // it ends with an error: there was nothing to read
		}
		note(mount.UnmountAll(c.dir, 0))
		note(d.sn.Remove(ctx, c.key))
	}
	return first
}
