// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/content"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	readyLabel = "bench.ready"
	probeEvery = 5 * time.Millisecond
	probeLimit = 10 * time.Second // for one answer
)

// condition is met by a line of the output, or, with a port, by whoever listens there.
type condition struct {
	line       *regexp.Regexp
	port, path string // no path: a connection is enough
}

func (l *lazypull) condition(ctx context.Context, image containerd.Image) (*condition, error) {
	text := l.options.ready
	if text == "label" {
		var err error
		if text, err = imageLabel(ctx, image, readyLabel); err != nil {
			return nil, err
		}
	}
	l.Condition = text
	c := &condition{}
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "", "line":
		var err error
		c.line, err = regexp.Compile(rest)
		return c, err
	case "tcp":
		c.port = rest
	case "http":
		c.port, c.path, _ = strings.Cut(rest, " ")
	}
	if c.port == "" || kind == "http" && c.path == "" {
		return nil, fmt.Errorf("no such condition: %q", text)
	}
	return c, nil
}

func imageLabel(ctx context.Context, image containerd.Image, name string) (string, error) {
	desc, err := image.Config(ctx)
	if err != nil {
		return "", err
	}
	data, err := content.ReadBlob(ctx, image.ContentStore(), desc)
	if err != nil {
		return "", err
	}
	var config ocispec.Image
	return config.Config.Labels[name], json.Unmarshal(data, &config)
}

// probe asks until it is answered as it should be: false when the time is over.
func (c *condition) probe(ctx context.Context) bool {
	address := net.JoinHostPort("127.0.0.1", c.port)
	client := http.Client{Timeout: probeLimit}
	for ctx.Err() == nil {
		if c.path == "" {
			if conn, err := net.DialTimeout("tcp", address, probeLimit); err == nil {
				conn.Close()
				return true
			}
		} else if answer, err := client.Get("http://" + address + c.path); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return true
			}
		}
		time.Sleep(probeEvery)
	}
	return false
}
