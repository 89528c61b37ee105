package imagestore

import (
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/registry/reference"
)

// HistoryEntry is one line of docker history, the newest first.
type HistoryEntry struct {
	// ID is the image id for the newest line, the V1 id of the step where one is
	// kept, else "<missing>".
	ID        string
	Created   time.Time
	CreatedBy string
	// Size is the number of bytes of the instruction's layer, as Info.Size counts them.
	Size    int64
	Comment string
	Tags    []string `json:",omitempty"`
}

// Inspect is what docker inspect prints of an image.
type Inspect struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      string
	Author       string
	Config       *dockerspec.DockerOCIImageConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	OsVersion    string `json:",omitempty"`
	Size         int64
	RootFS       InspectRootFS
	Descriptor   *ocispec.Descriptor `json:",omitempty"`
}

// InspectRootFS lists an image's layers by DiffID.
type InspectRootFS struct {
	Type   string
	Layers []string
}

// missing is what docker prints for a step whose image is not here.
const missing = "<missing>"

// History returns the lines of docker history.
func (s *Store) History(img *image.Image) ([]HistoryEntry, error) {
	ids, err := s.historyIDs(img)
	if err != nil {
		return nil, err
	}
	entries := make([]HistoryEntry, len(img.Config.History))
	layer := 0
	for i, h := range img.Config.History {
		at := len(entries) - 1 - i
		e := HistoryEntry{ID: missing, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			e.Created = *h.Created
		}
		if !h.EmptyLayer && layer < len(img.Stack) {
			e.Size = s.sizeOf(img.Stack[layer])
			layer++
		}
		if id, ok := ids[i+1]; ok {
			e.ID = id
		}
		entries[at] = e
	}
	if len(entries) > 0 {
		if img.V1 == "" || len(img.Names) > 0 {
			entries[0].ID = img.ID.String()
		}
		for _, n := range img.Names {
			entries[0].Tags = append(entries[0].Tags, reference.Familiar(n))
		}
	}
	return entries, nil
}

// historyIDs maps the number of history entries to the V1 record that has them.
func (s *Store) historyIDs(img *image.Image) (map[int]string, error) {
	line, err := s.line(img.V1)
	if err != nil || len(line) == 0 {
		return nil, err
	}
	newest, err := s.V1(line[0])
	if err != nil {
		return nil, err
	}
	oldest, err := s.V1(line[len(line)-1])
	if err != nil {
		return nil, err
	}
	ids := map[int]string{}
	// Each record has a line more than the one before, or several, one for each layer.
	n := len(newest.Image.History)
	if n-len(oldest.Image.History) == len(line)-1 {
		for i, id := range line {
			ids[n-i] = id
		}
		return ids, nil
	}
	chain, err := s.V1Chain(img.V1)
	if err != nil {
		return nil, err
	}
	for _, rec := range chain {
		ids[len(rec.Image.History)] = rec.ID
	}
	return ids, nil
}

// Inspect returns what docker inspect prints.
func (s *Store) Inspect(img *image.Image) (*Inspect, error) {
	c := img.Config
	out := &Inspect{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: []string{},
		Author: c.Author, Config: &c.Config, Architecture: c.Architecture, Variant: c.Variant,
		Os: c.OS, OsVersion: c.OSVersion, Descriptor: img.Manifest,
		RootFS: InspectRootFS{Type: c.RootFS.Type},
	}
	if c.Created != nil {
		out.Created = c.Created.Format(time.RFC3339Nano)
	}
	if n := len(c.History); n > 0 {
		out.Comment = c.History[n-1].Comment
	}
	for _, d := range c.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	for _, l := range img.Stack {
		out.Size += s.sizeOf(l)
	}
	if img.V1 != "" {
		rec, err := s.V1(img.V1)
		if err == nil && rec.Parent != "" {
			out.Parent = "sha256:" + rec.Parent
		}
	}
	return out, s.inspectNames(img, out)
}

func (s *Store) inspectNames(img *image.Image, out *Inspect) error {
	names, err := s.readNames()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, n := range img.Names {
		if !strings.Contains(n, "@") {
			out.RepoTags = append(out.RepoTags, reference.Familiar(n))
		}
		ref, err := reference.Parse(n)
		if m := names[n].Manifest; err == nil && m != nil {
			d := reference.Familiar(ref.Repository() + "@" + m.Digest.String())
			if !seen[d] {
				seen[d] = true
				out.RepoDigests = append(out.RepoDigests, d)
			}
		}
	}
	return nil
}
