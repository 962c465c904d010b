// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/cio"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/oci"
	runcoptions "github.com/containerd/containerd/runtime/v2/runc/options"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func (l *lazypull) runContainer(ctx context.Context, image containerd.Image) error {
	spec := []oci.SpecOpts{oci.WithImageConfig(image)}
	if len(l.args) > 0 {
		spec = append(spec, oci.WithProcessArgs(l.args...))
	}
	until, err := l.condition(ctx, image)
	if err != nil {
		return err
	}
	if until.port != "" { // the probe is made from here
		spec = append(spec, oci.WithHostNamespace(specs.NetworkNamespace))
	}
	container, err := l.client.NewContainer(ctx, l.name,
		containerd.WithImage(image),
		containerd.WithSnapshotter(l.snapshotter),
		containerd.WithNewSnapshot(l.name, image),
		containerd.WithNewSpec(spec...),
		containerd.WithRuntime("io.containerd.runc.v2", &runcoptions.Options{Root: l.runcRoot}))
	if err != nil {
		return fmt.Errorf("container: %w", err)
	}
	defer func() {
		ctx, cancel := afterwards(l.namespace)
		defer cancel()
		if err := container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
			fmt.Fprintln(os.Stderr, "lazypull: delete the container:", err)
		}
	}()
	l.Created = l.now()
	return l.runTask(ctx, container, until)
}

// afterwards is a context for cleaning up, which must work when the other one is over.
func afterwards(namespace string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	return namespaces.WithNamespace(ctx, namespace), cancel
}

func (l *lazypull) runTask(ctx context.Context, container containerd.Container, until *condition) error {
	output, input := io.Pipe()
	streams := []cio.Opt{cio.WithStreams(nil, input, os.Stderr)}
	if l.tmp != "" {
		streams = append(streams, cio.WithFIFODir(l.tmp))
	}
	task, err := container.NewTask(ctx, cio.NewCreator(streams...))
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	defer func() {
		ctx, cancel := afterwards(l.namespace)
		defer cancel()
		_, _ = task.Delete(ctx, containerd.WithProcessKill)
	}()
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	ready, copied := make(chan struct{}), make(chan struct{})
	go l.passOn(output, until, ready, copied)
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	l.Started = l.now()
	if until.port != "" {
		go func() {
			if until.probe(ctx) {
				l.isReady()
				close(ready)
			}
		}()
	}
	if l.stop {
		select {
		case <-ready:
			_ = task.Kill(ctx, syscall.SIGKILL, containerd.WithKillAll)
		case s := <-exited:
			if s.Error() != nil {
				return fmt.Errorf("not ready: %w", s.Error())
			}
			return fmt.Errorf("the command ended with status %d before it was ready", s.ExitCode())
		}
	}
	status := <-exited
	if status.Error() != nil {
		return fmt.Errorf("exit: %w", status.Error())
	}
	l.Exited = l.now()
	if !l.stop {
		l.Status = int(status.ExitCode())
	}
	task.IO().Wait()
	input.Close()
	<-copied
	return nil
}

// passOn copies the output and notes its first line; it is ready then, or when the line comes that is
// waited for.
func (l *lazypull) passOn(output io.Reader, until *condition, ready, copied chan struct{}) {
	defer close(copied)
	r := bufio.NewReader(output)
	for waiting := until.port == ""; ; {
		line, err := r.ReadString('\n')
		if line != "" && l.FirstLine == 0 {
			l.FirstLine, l.Line = l.now(), strings.TrimSuffix(line, "\n")
		}
		if line != "" && waiting && until.line.MatchString(line) {
			l.isReady()
			close(ready)
			waiting = false
		}
		fmt.Print(line)
		if err != nil {
			return
		}
	}
}

func (l *lazypull) isReady() {
	l.Ready = l.now()
	l.costs = l.count().since(l.before)
}
