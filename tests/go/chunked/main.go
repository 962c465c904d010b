// SPDX-License-Identifier: Apache-2.0

// chunked converts an image in an OCI layout to zstd:chunked in the dialect of containers/storage
// (Podman, Buildah, CRI-O), with a tar-split part and the footer of 64 bytes:
//
//	chunked FROM TO
//
// The tar streams stay as they are, and so does the image's config. Chunks end before and after runs
// of zeros and after 128 KiB; where exactly is the writer's choice.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	digest "github.com/opencontainers/go-digest"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: chunked FROM TO")
		os.Exit(2)
	}
	if err := convert(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "chunked:", err)
		os.Exit(1)
	}
}

func sha256sum(data []byte) digest.Digest {
	sum := sha256.Sum256(data)
	return digest.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

func blobPath(dir string, d digest.Digest) string {
	return filepath.Join(dir, "blobs", "sha256", d.Encoded())
}

func readJSON(path string, v interface{}) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// addBlob fills in what the descriptor says of the data.
func addBlob(dir string, data []byte, desc *ocispec.Descriptor) error {
	desc.Digest, desc.Size = sha256sum(data), int64(len(data))
	return os.WriteFile(blobPath(dir, desc.Digest), data, 0o644)
}

func convert(from, to string) error {
	var index ocispec.Index
	var manifest ocispec.Manifest
	if err := readJSON(filepath.Join(from, "index.json"), &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return errors.New("not a layout of one image")
	}
	if err := readJSON(blobPath(from, index.Manifests[0].Digest), &manifest); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	for i := range manifest.Layers {
		if err := convertLayer(from, to, &manifest.Layers[i]); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	config, err := os.ReadFile(blobPath(from, manifest.Config.Digest))
	if err != nil {
		return err
	}
	if err := addBlob(to, config, &manifest.Config); err != nil {
		return err
	}
	data, err := json.Marshal(struct {
		MediaType string `json:"mediaType"`
		ocispec.Manifest
	}{ocispec.MediaTypeImageManifest, manifest})
	if err != nil {
		return err
	}
	if err := addBlob(to, data, &index.Manifests[0]); err != nil {
		return err
	}
	if data, err = json.Marshal(index); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, "index.json"), data, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "oci-layout"), []byte(`{"imageLayoutVersion": "1.0.0"}`), 0o644)
}

func convertLayer(from, to string, desc *ocispec.Descriptor) error {
	packed, err := os.ReadFile(blobPath(from, desc.Digest))
	if err != nil {
		return err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	w, err := newWriter()
	if err != nil {
		return err
	}
	if err := w.addTar(z); err != nil {
		return err
	}
	blob, annotations, err := w.finish()
	if err != nil {
		return err
	}
	desc.MediaType, desc.Annotations = "application/vnd.oci.image.layer.v1.tar+zstd", annotations
	return addBlob(to, blob, desc)
}
