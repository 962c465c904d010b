// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd"
	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/images"
	"github.com/containerd/containerd/labels"
	"github.com/containerd/containerd/pkg/snapshotters"
	"github.com/containerd/containerd/remotes"
	"github.com/containerd/containerd/remotes/docker"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// resolver notes when the name was resolved.
type resolver struct {
	remotes.Resolver
	l *lazypull
}

func (r resolver) Resolve(ctx context.Context, ref string) (string, ocispec.Descriptor, error) {
	name, desc, err := r.Resolver.Resolve(ctx, ref)
	r.l.Resolved = r.l.now()
	return name, desc, err
}

func (l *lazypull) pullImage(ctx context.Context) (containerd.Image, error) {
	hosts := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	plain := docker.NewResolver(docker.ResolverOptions{Hosts: hosts})
	opts := []containerd.RemoteOpt{
		containerd.WithResolver(resolver{plain, l}),
		containerd.WithPullUnpack,
		containerd.WithPullSnapshotter(l.snapshotter),
		containerd.WithMaxConcurrentDownloads(l.concurrency),
	}
	switch l.labels {
	case "cri":
		opts = append(opts, containerd.WithImageHandlerWrapper(func(h images.Handler) images.Handler {
			return l.noteLayers(snapshotters.AppendInfoHandlerWrapper(l.ref)(h))
		}))
	case "stargz":
		opts = append(opts, containerd.WithImageHandlerWrapper(func(h images.Handler) images.Handler {
			return l.noteLayers(l.appendStargz(h))
		}))
	case "none":
		opts = append(opts, containerd.WithImageHandlerWrapper(l.noteLayers))
	default:
		return nil, fmt.Errorf("no such labels: %s", l.labels)
	}
	image, err := l.client.Pull(ctx, l.ref, opts...)
	if err != nil {
		return nil, err
	}
	l.Pulled = l.now()
	return image, l.whatWasFetched(ctx, image)
}

func isManifest(desc ocispec.Descriptor) bool {
	return desc.MediaType == ocispec.MediaTypeImageManifest ||
		desc.MediaType == images.MediaTypeDockerSchema2Manifest
}

// noteLayers remembers the layers, and which of them are in the content store before the pull.
func (l *lazypull) noteLayers(h images.Handler) images.Handler {
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		if err != nil || !isManifest(desc) || l.Layers != nil {
			return children, err
		}
		for _, c := range children {
			if !images.IsLayerType(c.MediaType) {
				continue
			}
			state := ""
			if _, err := l.client.ContentStore().Info(ctx, c.Digest); err == nil {
				state = "present"
			}
			l.Layers = append(l.Layers, layer{c.Digest.String(), c.MediaType, c.Size, state})
		}
		return children, nil
	})
}

func (l *lazypull) whatWasFetched(ctx context.Context, image containerd.Image) error {
	found := map[string]bool{}
	manifest, err := images.Manifest(ctx, l.client.ContentStore(), image.Target(), image.Platform())
	if err != nil {
		return err
	}
	for _, desc := range manifest.Layers {
		_, err := l.client.ContentStore().Info(ctx, desc.Digest)
		if err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		found[desc.Digest.String()] = err == nil
	}
	for i := range l.Layers {
		switch {
		case l.Layers[i].State != "":
		case found[l.Layers[i].Digest]:
			l.Layers[i].State = "fetched"
		default:
			l.Layers[i].State = "remote"
		}
	}
	return nil
}

// appendStargz adds the labels that ctr-remote and nerdctl add.
func (l *lazypull) appendStargz(h images.Handler) images.Handler {
	const prefix = "containerd.io/snapshot/remote/stargz."
	return images.HandlerFunc(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		children, err := h.Handle(ctx, desc)
		if err != nil || !isManifest(desc) {
			return children, err
		}
		for i := range children {
			c := &children[i]
			if !images.IsLayerType(c.MediaType) {
				continue
			}
			if c.Annotations == nil {
				c.Annotations = map[string]string{}
			}
			c.Annotations[prefix+"reference"] = l.ref
			c.Annotations[prefix+"digest"] = c.Digest.String()
			c.Annotations[prefix+"layers"] = joinLayers(prefix+"layers", children[i:])
			c.Annotations[prefix+"prefetch"] = "10485760"
		}
		return children, nil
	})
}

// joinLayers joins as many digests as a label can hold.
func joinLayers(key string, descs []ocispec.Descriptor) string {
	var digests []string
	for _, d := range descs {
		if !images.IsLayerType(d.MediaType) {
			continue
		}
		more := append(digests, d.Digest.String())
		if labels.Validate(key, strings.Join(more, ",")) != nil {
			break
		}
		digests = more
	}
	return strings.Join(digests, ",")
}
