package assemble

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// hashed is what an id is the digest of, as docker's CreateID has it.
type hashed struct {
	Size            int64                            `json:"Size"`
	Architecture    string                           `json:"architecture,omitempty"`
	Author          string                           `json:"author,omitempty"`
	Comment         string                           `json:"comment,omitempty"`
	Config          *dockerspec.DockerOCIImageConfig `json:"config,omitempty"`
	ContainerConfig *dockerspec.DockerOCIImageConfig `json:"container_config"`
	Created         *time.Time                       `json:"created"`
	DockerVersion   string                           `json:"docker_version,omitempty"`
	LayerID         snapshot.ChainID                 `json:"layer_id"`
	OS              string                           `json:"os,omitempty"`
	Parent          string                           `json:"parent,omitempty"`
	Variant         string                           `json:"variant,omitempty"`
}

func idOf(t *testing.T, r image.V1Record) string {
	t.Helper()
	raw, err := json.Marshal(hashed{
		Size: r.Size, Architecture: r.Architecture, Author: r.Author, Comment: r.Comment, Config: r.Config,
		ContainerConfig: &r.ContainerConfig, Created: r.Created, DockerVersion: r.DockerVersion, LayerID: r.Stack.ChainID(),
		OS: r.OS, Parent: r.Parent, Variant: r.Variant,
	})
	if err != nil {
		t.Fatal(err)
	}
	return digest.FromBytes(raw).Encoded()
}

// grown is a configuration that knows what was added to it.
type grown struct {
	img    image.Config
	before *grown
	added  Additions
}

func (g *grown) Image() image.Config { return g.img }

func (g *grown) On(before Configuration) (Additions, bool) {
	return g.added, g.before != nil && before == Configuration(g.before)
}

// grow adds something to a configuration, at random.
func grow(rnd *rand.Rand, before *grown) *grown {
	g := &grown{before: before, img: before.img}
	c := &g.img.Config
	c.Env, c.Labels, c.ExposedPorts, c.Volumes = slices.Clone(c.Env), maps.Clone(c.Labels), maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes)
	for range rnd.IntN(3) {
		key, value := fmt.Sprintf("k%d", rnd.IntN(30)), fmt.Sprintf("<v&%d\"\xff\u2028", rnd.IntN(1000))
		switch rnd.IntN(4) {
		case 0:
			g.added.Env = append(g.added.Env, [2]string{key, value})
			i := slices.IndexFunc(c.Env, func(kv string) bool { k, _, _ := strings.Cut(kv, "="); return k == key })
			if i < 0 {
				i, c.Env = len(c.Env), append(c.Env, "")
			}
			c.Env[i] = key + "=" + value
		case 1:
			g.added.Labels = append(g.added.Labels, [2]string{key + value, value})
			c.Labels[key+value] = value
		case 2:
			g.added.Ports = append(g.added.Ports, key)
			c.ExposedPorts[key] = struct{}{}
		default:
			g.added.Volumes = append(g.added.Volumes, key)
			c.Volumes[key] = struct{}{}
		}
	}
	switch rnd.IntN(12) {
	case 0:
		c.User = "u<"
	case 1:
		c.Cmd, c.Entrypoint = []string{"a", "<b"}, []string{}
	case 2:
		c.Cmd, c.Entrypoint = nil, []string{"e"}
	case 3:
		c.WorkingDir, c.StopSignal = "/w", "9"
	case 4:
		//lint:ignore SA1019 part of what is hashed
		c.ArgsEscaped = !c.ArgsEscaped
	case 5:
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}, Retries: rnd.IntN(2)}
	case 6:
		c.OnBuild, c.Shell = []string{"RUN x"}, []string{"sh"}
	case 7:
		g.img.Author, g.img.Variant = "a", "v8"
	}
	g.added.Rest = g.img
	return g
}

// wanted is the record of an instruction, whose size, times and parent are as given.
func wanted(st Step, got image.V1Record, hist []ocispec.History) image.V1Record {
	img := st.Config
	if st.Left != nil {
		img = st.Left.Image()
	}
	img.History, img.RootFS, img.Created = hist, image.RootFS(st.Stack), got.Created
	config := img.Config
	rec := image.V1Record{V1Image: got.V1Image, Stack: st.Stack, Image: img}
	rec.Author, rec.Architecture, rec.Variant, rec.OS = img.Author, img.Architecture, img.Variant, img.OS
	rec.Comment, rec.Config, rec.ContainerConfig = st.Comment, &config, img.Config
	rec.ContainerConfig.Cmd = st.command()
	return rec
}

// TestIDs compares records, and their ids, that were made of what was added to the
// configuration before with what encoding/json makes of them, also where several stages go on from
// one and where a configuration does not know what was added.
func TestIDs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	first := &grown{img: testConfig()}
	c := &first.img.Config
	c.Env = []string{"PATH=/bin", "k1", "k2=a", "k2=b", "=x"} // as base images may have them
	c.Labels, c.ExposedPorts, c.Volumes = map[string]string{"b": "1", "a": "2"}, map[string]struct{}{}, map[string]struct{}{}
	type stage struct {
		chain *Chain
		last  *grown
		hist  []ocispec.History
	}
	first.img.OSVersion, first.img.OSFeatures = "<10>", []string{"f"}
	base := testInput()
	stages := []stage{
		{NewChain(nil, nil, "", nil), first, nil},
		{NewChain(base.Base, base.BaseStack, "base", nil), first, base.Base.History},
	}
	for range 60 {
		at := stages[rnd.IntN(len(stages))]
		stack := at.chain.Stack()
		var steps []Step
		for i := range rnd.IntN(6) {
			at.last = grow(rnd, at.last)
			step := Step{CreatedBy: fmt.Sprintf("LABEL <%d> # buildkit", i), Left: at.last, Unlisted: rnd.IntN(9) == 0}
			switch rnd.IntN(4) {
			case 0:
				stack = append(stack[:len(stack):len(stack)], testLayer(fmt.Sprint(rnd.IntN(1000)), day))
				step.Cmd, step.Comment = []string{"/bin/sh", "-c", "<x>"}, "c"
			case 1:
				step.Left, step.Config = nil, at.last.img
			}
			step.Stack = stack
			steps = append(steps, step)
		}
		i := 0
		hist := slices.Clone(at.hist)
		chain, err := at.chain.Extend(steps, func(m image.V1Maker) error {
			for ; steps[i].Unlisted; i++ {
			}
			raw, err := m.Encode()
			if err != nil {
				return err
			}
			var got image.V1Record
			if err := json.Unmarshal(raw, &got); err != nil {
				return err
			}
			hist = append(hist, got.Image.History[len(hist):]...)
			rec := wanted(steps[i], got, hist)
			i++
			if want := idOf(t, rec); got.ID != m.ID || m.ID != want {
				t.Errorf("id %s, %s in the record, whose digest is %s: %+v", m.ID, got.ID, want, rec)
			}
			want, err := json.Marshal(rec)
			if string(raw) != string(want) {
				t.Errorf("the record is\n%s\nnot\n%s", raw, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		stages = append(stages, stage{chain, at.last, hist})
	}
}

// TestIDsHaveAllFields fails if a configuration has a field that configText does not write.
func TestIDsHaveAllFields(t *testing.T) {
	var names []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[dockerspec.DockerOCIImageConfig]()) {
		if !f.Anonymous {
			names = append(names, f.Name)
		}
	}
	want := "User ExposedPorts Env Entrypoint Cmd Volumes WorkingDir Labels StopSignal ArgsEscaped Healthcheck OnBuild Shell"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the fields are now %s", got)
	}
}

// TestStagesWithoutInstructions proves that what goes on from a stage that adds nothing
// does not write into what goes on from the stage below it.
func TestStagesWithoutInstructions(t *testing.T) {
	label := func(on *Chain, text string) (next *Chain, rec image.V1Record) {
		next, err := on.Extend([]Step{{CreatedBy: text, Config: testConfig()}}, func(m image.V1Maker) error {
			raw, err := m.Encode()
			return errors.Join(err, json.Unmarshal(raw, &rec))
		})
		if err != nil {
			t.Fatal(err)
		}
		return next, rec
	}
	a := NewChain(nil, nil, "", nil)
	for i := range 5 {
		a, _ = label(a, fmt.Sprint(i))
	}
	b, err := a.Extend(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := label(a, "c")
	label(b, "d")
	_, rec := label(c, "e")
	var got []string
	for _, h := range rec.Image.History {
		got = append(got, h.CreatedBy)
	}
	if text := strings.Join(got, " "); text != "0 1 2 3 4 c e" {
		t.Errorf("history %s", text)
	}
}
