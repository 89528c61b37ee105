package assemble

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// V1Records makes the records of all instructions, the oldest first. Their ids
// are digests of the record, the layers and the parent, as docker's CreateID
// makes them; so the same build gives the same ids.
func V1Records(in Input) ([]image.V1Record, error) {
	hist, err := newHistory(in)
	if err != nil {
		return nil, err
	}
	at := len(baseHistory(in.Base, in.BaseStack))
	prev, parent := in.BaseStack, in.BaseV1
	recs := make([]image.V1Record, 0, len(in.Steps))
	for _, st := range in.Steps {
		added := st.Stack[len(prev):]
		at += max(1, len(added))
		rec := newV1(st, added)
		rec.Created = hist[at-1].Created
		rec.Parent = parent
		rec.Image.History = hist[:at:at]
		rec.Image.RootFS = image.RootFS(st.Stack)
		rec.Image.Created = rec.Created
		if rec.ID, err = v1ID(rec.V1Image, st.Stack.ChainID()); err != nil {
			return nil, err
		}
		recs = append(recs, rec)
		prev, parent = st.Stack, rec.ID
	}
	return recs, nil
}

func newV1(st Step, added snapshot.Stack) image.V1Record {
	cfg := st.Config.Config
	rec := image.V1Record{
		V1Image: image.V1Image{
			Comment:         st.Comment,
			ContainerConfig: cfg,
			Author:          st.Config.Author,
			Config:          &cfg,
			Architecture:    st.Config.Architecture,
			Variant:         st.Config.Variant,
			OS:              st.Config.OS,
		},
		Stack: st.Stack,
		Image: st.Config,
	}
	for _, l := range added {
		rec.Size += l.Size
	}
	rec.ContainerConfig.Cmd = st.Cmd
	if st.Cmd == nil {
		rec.ContainerConfig.Cmd = []string{"/bin/sh", "-c", "#(nop) " + strings.TrimSuffix(st.CreatedBy, " # buildkit")}
	}
	return rec
}

// v1ID follows docker's image/v1.CreateID: a digest of the record without its
// id, with the chain of layers and the parent.
func v1ID(v image.V1Image, chain snapshot.ChainID) (string, error) {
	v.ID = ""
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	delete(fields, "id")
	if fields["layer_id"], err = json.Marshal(chain); err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	if raw, err = json.Marshal(fields); err != nil {
		return "", fmt.Errorf("encode v1 record: %w", err)
	}
	return digest.FromBytes(raw).Encoded(), nil
}
