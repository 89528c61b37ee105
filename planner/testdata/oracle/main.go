// Command oracle records in golden archives ("-- buildkit --") what BuildKit's
// own frontend makes of their Dockerfiles: names of steps, history,
// configuration and warnings. It is a module of its own, since BuildKit's
// frontend needs packages that the builder does not.
//
//	cd planner/testdata/oracle && go run . ../*.txtar
//
// Archives with a "deviates" section are left alone: there the builder does
// something else on purpose.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"
)

func main() {
	for _, path := range os.Args[1:] {
		if err := record(path); err != nil {
			log.Fatalf("%s: %v", path, err)
		}
	}
}

func record(path string) error {
	ar, err := txtar.ParseFile(path)
	if err != nil {
		return err
	}
	if section(ar, "deviates") != nil || section(ar, "error") != nil {
		return nil
	}
	facts, err := convert(ar)
	if err != nil {
		return err
	}
	ar.Files = slices.DeleteFunc(ar.Files, func(f txtar.File) bool { return f.Name == "buildkit" })
	ar.Files = append(ar.Files, txtar.File{Name: "buildkit", Data: []byte(facts)})
	return os.WriteFile(path, txtar.Format(ar), 0o644)
}

func section(ar *txtar.Archive, name string) []byte {
	for _, f := range ar.Files {
		if f.Name == name {
			return f.Data
		}
	}
	return nil
}

func convert(ar *txtar.Archive) (string, error) {
	caps := pb.Caps.CapSet(pb.Caps.All())
	images, err := readImages(ar)
	if err != nil {
		return "", err
	}
	opt := dockerfile2llb.ConvertOpt{LLBCaps: &caps, MetaResolver: images, MainContext: dockerui.DefaultMainContext()}
	opt.BuildArgs, opt.Labels = map[string]string{}, map[string]string{}
	opt.BuildPlatforms = []ocispec.Platform{platforms.MustParse("linux/amd64")}
	for line := range strings.Lines(string(section(ar, "options"))) {
		option(&opt, strings.TrimSpace(line))
	}
	warnings := map[string]bool{}
	opt.Warn = func(rule, _, _, msg string, loc []parser.Range) {
		warnings[fmt.Sprintf("warning Dockerfile:%d %s: %s\n", loc[0].Start.Line, rule, msg)] = true
	}
	res, err := dockerfile2llb.Dockerfile2LLB(context.Background(), section(ar, "Dockerfile"), opt)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	if err := show(&b, res); err != nil {
		return "", err
	}
	for _, w := range slices.Sorted(maps.Keys(warnings)) {
		b.WriteString(w)
	}
	return b.String(), nil
}

func option(opt *dockerfile2llb.ConvertOpt, line string) {
	key, value, _ := strings.Cut(line, " ")
	k, v, _ := strings.Cut(value, "=")
	switch key {
	case "target":
		opt.Target = value
	case "arg":
		opt.BuildArgs[k] = v
	case "label":
		opt.Labels[k] = v
	case "platform":
		p := platforms.MustParse(value)
		opt.TargetPlatform = &p
	case "epoch":
		opt.BuildArgs["SOURCE_DATE_EPOCH"] = value
	case "network":
		opt.NetworkMode = pb.NetMode_HOST
	}
}

func show(b *strings.Builder, res *dockerfile2llb.Result) error {
	def, err := res.State.Marshal(context.Background(), llb.LinuxAmd64)
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, m := range def.Metadata {
		if n := m.Description["llb.customname"]; n != "" && !strings.HasPrefix(n, "[internal]") {
			names[n] = true
		}
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		fmt.Fprintf(b, "step %q\n", n)
	}
	ops, err := operations(def.Def)
	if err != nil {
		return err
	}
	for _, line := range slices.Sorted(maps.Keys(ops)) {
		b.WriteString(line)
	}
	img, inherited := *res.Image, 0
	if res.BaseImage != nil {
		inherited = len(res.BaseImage.History)
	}
	for _, h := range img.History[inherited:] {
		fmt.Fprintf(b, "history %v %q\n", h.EmptyLayer, h.CreatedBy)
	}
	img.History, img.RootFS, img.Created = nil, ocispec.RootFS{}, nil
	config, err := json.MarshalIndent(img, "", "  ")
	fmt.Fprintf(b, "config %s\n", config)
	return err
}

// images answers as the test's resolver does.
type images map[string]dockerspec.DockerOCIImage

func readImages(ar *txtar.Archive) (images, error) {
	m := images{}
	for _, f := range ar.Files {
		if ref, ok := strings.CutPrefix(f.Name, "image "); ok {
			var c dockerspec.DockerOCIImage
			if err := json.Unmarshal(f.Data, &c); err != nil {
				return nil, err
			}
			m["docker.io/library/"+ref] = c
		}
	}
	return m, nil
}

func (m images) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	c, ok := m[ref]
	if !ok {
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return "", "", nil, err
		}
		name := reference.Path(named)
		c.Config.Env, c.Config.Cmd = []string{"PATH=/usr/bin:/bin"}, []string{"/bin/sh"}
		c.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(name)}}
		c.History = []ocispec.History{{CreatedBy: name}}
	}
	p := *opt.ImageOpt.Platform
	if c.OS == "" {
		c.Platform = p
	}
	dt, err := json.Marshal(c)
	return ref, digest.FromString(ref + platforms.Format(p)), dt, err
}
