// SPDX-License-Identifier: Apache-2.0

// lazypull pulls an image as CRI does: with unpacking during the pull and the labels by which a
// snapshotter can offer layers that are not fetched. With -run it starts a container of the image
// at once and waits for its first line, or with -ready until it is ready.
//
//	lazypull -address SOCKET -snapshotter NAME [OPTION...] IMAGE [COMMAND...]
//
// Without a command the image's own is run. The container's output is passed on; timings, counted
// from the start of the program, go to standard error and with -report to a file, as JSON. The exit
// status is the command's own; 0 if -stop ended it when it was ready; 125 if something else
// failed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/namespaces"
)

const failed = 125

type options struct {
	address, namespace, snapshotter     string
	labels, report, name, runcRoot, tmp string
	link, ready, watch, access          string
	pull, run, stop                     bool
	timeout                             time.Duration
	concurrency                         int
}

// report is what is known at the end. Times are milliseconds since the start of the program.
type report struct {
	Image     string  `json:"image"`
	Labels    string  `json:"labels"`
	Resolved  float64 `json:"resolved_ms"`
	Pulled    float64 `json:"pulled_ms"`
	Created   float64 `json:"created_ms,omitempty"`
	Started   float64 `json:"started_ms,omitempty"`
	FirstLine float64 `json:"first_line_ms,omitempty"`
	Line      string  `json:"first_line,omitempty"`
	Condition string  `json:"condition,omitempty"` // of being ready; none: the first line
	Ready     float64 `json:"ready_ms,omitempty"`
	Exited    float64 `json:"exited_ms,omitempty"`
	Status    int     `json:"status"`
	Layers    []layer `json:"layers"`
	costs             // from the start until it was ready
}

type layer struct {
	Digest    string `json:"digest"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
	State     string `json:"state"` // remote, fetched, or present: in the store before the pull
}

type lazypull struct {
	options
	report
	ref    string
	args   []string
	client *containerd.Client
	start  time.Time
	before costs // of what is counted, at the start
}

func (l *lazypull) now() float64 {
	return float64(time.Since(l.start).Microseconds()) / 1000
}

func parse() *lazypull {
	l := &lazypull{}
	o := &l.options
	flag.StringVar(&o.address, "address", "", "containerd's `socket`")
	flag.StringVar(&o.namespace, "namespace", namespaces.Default, "its `namespace`")
	flag.StringVar(&o.snapshotter, "snapshotter", "overlayfs", "its `name`")
	flag.StringVar(&o.labels, "labels", "cri", "whose labels: `cri, stargz or none`")
	flag.StringVar(&o.report, "report", "", "write the timings to this `file`")
	flag.StringVar(&o.name, "name", "", "the container's `name`")
	flag.StringVar(&o.runcRoot, "runc-root", "", "runc's state `directory`")
	flag.StringVar(&o.tmp, "fifo-dir", "", "`directory` of the container's FIFOs")
	flag.StringVar(&o.link, "interface", "", "count what this network `interface` receives")
	flag.StringVar(&o.ready, "ready", "", "`condition`: \"line EXPRESSION\", \"tcp PORT\", \"http PORT PATH\", or \"label\": "+
		"as the image says")
	flag.StringVar(&o.watch, "watch", "", "`PIDS`, with commas: what time and memory these take, and lazypull")
	flag.StringVar(&o.access, "access", "", "count the lines of this `file`, the registry's access log")
	flag.BoolVar(&o.pull, "pull", true, "false: the image is there already")
	flag.BoolVar(&o.run, "run", false, "run a container")
	flag.BoolVar(&o.stop, "stop", false, "kill it when it is ready")
	flag.DurationVar(&o.timeout, "timeout", 2*time.Minute, "for all together")
	flag.IntVar(&o.concurrency, "concurrency", 3, "layers fetched at a time")
	flag.Parse()
	if flag.NArg() < 1 || o.address == "" {
		fmt.Fprintln(os.Stderr, "usage: lazypull -address SOCKET [OPTION...] IMAGE [COMMAND...]")
		os.Exit(failed)
	}
	l.ref, l.args = flag.Arg(0), flag.Args()[1:]
	l.report.Image, l.report.Labels = l.ref, o.labels
	if o.name == "" {
		o.name = fmt.Sprintf("lazypull-%d", os.Getpid())
	}
	return l
}

func main() {
	l := parse()
	l.before = l.count()
	l.start = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	ctx = namespaces.WithNamespace(ctx, l.namespace)
	err := l.all(ctx)
	cancel()
	if err == nil {
		err = l.tell()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lazypull:", err)
		os.Exit(failed)
	}
	os.Exit(l.Status)
}

func (l *lazypull) all(ctx context.Context) (err error) {
	l.client, err = containerd.New(l.address, containerd.WithTimeout(30*time.Second))
	if err != nil {
		return err
	}
	defer l.client.Close()
	var image containerd.Image
	if l.pull {
		image, err = l.pullImage(ctx)
	} else {
		image, err = l.client.GetImage(ctx, l.ref)
	}
	if err != nil {
		return fmt.Errorf("image %s: %w", l.ref, err)
	}
	if !l.run {
		return nil
	}
	return l.runContainer(ctx, image)
}

func (l *lazypull) tell() error {
	for _, layer := range l.Layers {
		fmt.Fprintf(os.Stderr, "%-8s %s %d\n", layer.State, layer.Digest, layer.Size)
	}
	fmt.Fprintf(os.Stderr, "resolved %.1f pulled %.1f", l.Resolved, l.Pulled)
	if l.run {
		fmt.Fprintf(os.Stderr, " created %.1f started %.1f first line %.1f ready %.1f exited %.1f", l.Created,
			l.Started, l.FirstLine, l.Ready, l.Exited)
	}
	fmt.Fprintln(os.Stderr, " (ms)")
	if l.options.report == "" {
		return nil
	}
	data, err := json.Marshal(&l.report)
	if err != nil {
		return err
	}
	return os.WriteFile(l.options.report, append(data, '\n'), 0o644)
}
