// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	digest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type registry struct {
	host, name string
}

func (r registry) url(path string) string {
	return "http://" + r.host + "/v2/" + r.name + path
}

// send returns where the registry leads to.
func send(method, to, mediaType string, body []byte) (string, error) {
	request, err := http.NewRequest(method, to, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", mediaType)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, to, answer.Status, text)
	}
	return answer.Header.Get("Location"), err
}

// pushBlob fills in what the descriptor says of the data.
func (r registry) pushBlob(data []byte, desc *ocispec.Descriptor) error {
	desc.Digest, desc.Size = digest.FromBytes(data), int64(len(data))
	location, err := send(http.MethodPost, r.url("/blobs/uploads/"), "", nil)
	if err != nil {
		return err
	}
	to, err := url.Parse(location)
	if err != nil {
		return err
	}
	query := to.Query()
	query.Set("digest", desc.Digest.String())
	to.RawQuery = query.Encode()
	_, err = send(http.MethodPut, to.String(), "application/octet-stream", data)
	return err
}

func (r registry) pushManifest(tag string, manifest *ocispec.Manifest) error {
	data, err := json.Marshal(struct {
		MediaType string `json:"mediaType"`
		*ocispec.Manifest
	}{ocispec.MediaTypeImageManifest, manifest})
	if err != nil {
		return err
	}
	_, err = send(http.MethodPut, r.url("/manifests/"+tag), ocispec.MediaTypeImageManifest, data)
	return err
}
