// SPDX-License-Identifier: Apache-2.0

// synth makes images in eStargz and pushes them to a registry that speaks plain HTTP:
//
//	synth -registry HOST:PORT -name REPOSITORY -images N -files M   NAME:0 to NAME:N-1; no content
//	                                                                is in two of them
//	synth -registry HOST:PORT -name REPOSITORY -tree DIRECTORY      NAME:0 holds what is in there,
//	                                                                and a second layer with one file
//
// Streams are stored, not compressed. Whoever makes a million of small ones wants it fast.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	filesInDirectory = 100
	tocDigest        = "containerd.io/snapshot/stargz/toc.digest"
)

var epoch = time.Unix(1700000000, 0)

// stored writes its streams with one compressor, which takes longer to make than a small stream.
type stored struct {
	*estargz.GzipCompressor
	z *gzip.Writer
}

func (s stored) Writer(w io.Writer) (io.WriteCloser, error) {
	s.z.Reset(w)
	return s.z, nil
}

func header(t *tar.Writer, name string, kind byte, mode, size int64, target string) error {
	return t.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: mode, Size: size, Linkname: target,
		ModTime: epoch, Format: tar.FormatPAX})
}

// numbered writes files that no other image has.
func numbered(t *tar.Writer, image, files int) error {
	for i := 0; i < files; i++ {
		if i%filesInDirectory == 0 {
			if err := header(t, fmt.Sprintf("d%04d/", i/filesInDirectory), tar.TypeDir, 0o755, 0, ""); err != nil {
				return err
			}
		}
		text := fmt.Sprintf("file %d of image %d\n", i, image)
		name := fmt.Sprintf("d%04d/file-%06d.txt", i/filesInDirectory, i)
		if err := header(t, name, tar.TypeReg, 0o644, int64(len(text)), ""); err != nil {
			return err
		}
		if _, err := io.WriteString(t, text); err != nil {
			return err
		}
	}
	return nil
}

func addPath(t *tar.Writer, path, name string, info fs.FileInfo) error {
	switch mode := int64(info.Mode().Perm()); {
	case info.IsDir():
		return header(t, name+"/", tar.TypeDir, mode, 0, "")
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return header(t, name, tar.TypeSymlink, mode, 0, target)
	case info.Mode().IsRegular():
		if err := header(t, name, tar.TypeReg, mode, info.Size(), ""); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(t, f)
		return err
	}
	return fmt.Errorf("%s is of another kind", path)
}

func tree(t *tar.Writer, top string) error {
	return filepath.Walk(top, func(path string, info fs.FileInfo, err error) error {
		name, _ := filepath.Rel(top, path)
		if err != nil || name == "." {
			return err
		}
		return addPath(t, path, name, info)
	})
}

// layer makes a blob of the tar that fill writes.
func layer(fill filler) (blob []byte, toc, diffID digest.Digest, err error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		return nil, "", "", err
	}
	w := estargz.NewWriterWithCompressor(&out, stored{estargz.NewGzipCompressorWithLevel(gzip.BestSpeed), z})
	r, pipe := io.Pipe()
	go func() {
		t := tar.NewWriter(pipe)
		err := fill(t)
		if err == nil {
			err = t.Close()
		}
		pipe.CloseWithError(err)
	}()
	if err := w.AppendTar(r); err != nil {
		return nil, "", "", err
	}
	toc, err = w.Close()
	return out.Bytes(), toc, digest.Digest(w.DiffID()), err
}

type filler func(*tar.Writer) error

// push makes an image of one layer for each filler.
func push(to registry, tag string, fill ...filler) error {
	root := ocispec.RootFS{Type: "layers"}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig}}
	for _, f := range fill {
		blob, toc, diffID, err := layer(f)
		if err != nil {
			return err
		}
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip,
			Annotations: map[string]string{tocDigest: toc.String()}}
		if err := to.pushBlob(blob, &desc); err != nil {
			return err
		}
		root.DiffIDs = append(root.DiffIDs, diffID)
		manifest.Layers = append(manifest.Layers, desc)
	}
	config, err := json.Marshal(ocispec.Image{Created: &epoch, Architecture: "amd64", OS: "linux", RootFS: root})
	if err != nil {
		return err
	}
	if err := to.pushBlob(config, &manifest.Config); err != nil {
		return err
	}
	return to.pushManifest(tag, &manifest)
}

func main() {
	var to registry
	flag.StringVar(&to.host, "registry", "", "`HOST:PORT`")
	flag.StringVar(&to.name, "name", "synth", "`repository`")
	images := flag.Int("images", 1, "how `many`")
	files := flag.Int("files", 10000, "how `many` in each")
	top := flag.String("tree", "", "pack this `directory`")
	flag.Parse()
	if to.host == "" || flag.NArg() != 0 {
		flag.Usage()
		os.Exit(2)
	}
	var err error
	if *top != "" {
		err = push(to, "0", func(t *tar.Writer) error { return tree(t, *top) },
			func(t *tar.Writer) error { return header(t, "second-layer", tar.TypeReg, 0o644, 0, "") })
	}
	for i := 0; *top == "" && err == nil && i < *images; i++ {
		err = push(to, fmt.Sprint(i), func(t *tar.Writer) error { return numbered(t, i, *files) })
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "synth:", err)
		os.Exit(1)
	}
}
