package export

import (
	"reflect"
	"strings"
	"testing"

	"layered.build/builder/registry"
	"layered.build/builder/registry/export/engines"
)

// parse makes an exporter of what --output takes, and checks it alone.
func parse(text string) (Exporter, error) {
	s, err := ParseSpec(text)
	if err != nil {
		return nil, err
	}
	e, err := Parse(s)
	if err != nil {
		return nil, err
	}
	if err := CheckEmptied([]Exporter{e}); err != nil {
		return nil, err
	}
	return e, Check([]Exporter{e}, Request{Names: []string{"x"}})
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want Exporter
		err  string
	}{
		{text: "type=oci,dest=x.tar", want: ociExporter{archive: archive{dest: "x.tar"}}},
		{text: "type=image,name=a,push=true", want: imageExporter{look: look{names: []string{"a"}}, push: true}},
		{text: "-", want: tarExporter{fileSystems: fileSystems{dest: "-"}}},
		{text: "type=oci", err: "dest is missing"},
		{text: "type=local,dest=x", want: localExporter{fileSystems: fileSystems{dest: "x"}}},
		{text: "dir", want: localExporter{fileSystems: fileSystems{dest: "dir"}}},
		{text: "type=local", err: "dest is missing"},
		{text: "type=local,dest=-", err: "cannot go to stdout"},
		{text: "type=local,dest=x,mode=delete", want: localExporter{fileSystems: fileSystems{dest: "x"}, remove: true}},
		{text: "type=local,dest=.,mode=delete", err: "not below the working directory"},
		{text: "type=local,dest=/tmp/x,mode=delete", err: "not below the working directory"},
		{text: "type=local,dest=x,mode=sync", err: "mode=sync"},
		{text: "type=tar,dest=x,push=true", err: "--output type=tar,push is not supported"},
		{text: "type=image,nonsense=1", err: "--output nonsense is not supported"},
		{text: "type=oci,dest=x,tar=false", want: ociExporter{archive: archive{dest: "x", dir: true}}},
		{text: "type=oci,dest=-,tar=false", err: "cannot go to stdout"},
		{text: "type=docker", want: imageExporter{}},
		{text: "type=image,compression=zstd", want: imageExporter{look: look{compression: registry.Compression{Type: "zstd"}}}},
		{text: "type=image,compression=estargz", want: imageExporter{look: look{compression: registry.Compression{Type: "estargz"}}}},
		{text: "type=oci,dest=x,compression=zstd:chunked", want: ociExporter{look: look{compression: registry.Compression{Type: "zstd:chunked"}}, archive: archive{dest: "x"}}},
		{text: "type=image,compression=nydus", err: "compression=nydus is not supported"},
		{text: "type=image,compression=estargz,oci-mediatypes=false", err: "estargz"},
		{text: "type=image,store=false,unpack=false", want: imageExporter{unstored: true}},
		{text: "type=image,store=false,unpack=true", err: "store=false"},
		{text: "type=image,unpack=true", want: imageExporter{unpack: true}},
		{text: "type=image,dangling-name-prefix=x,danging-name-empty-only,name-canonical=true", want: imageExporter{naming: naming{dangling: "x", onlyUnnamed: true, canonical: true}}},
		{text: "type=image,prefer-nondist-layers=true,rewrite-timestamp=true", want: imageExporter{look: look{foreign: true}}},
		{text: "type=image,rewrite-timestamp=false", want: imageExporter{look: look{keepTime: true}}},
		{text: "type=local,dest=x,source-date-epoch=", want: localExporter{fileSystems: fileSystems{dest: "x", epoch: &Epoch{}}}},
		{text: "type=tar,dest=x,source-date-epoch=1.5", err: "source-date-epoch=1.5"},
		{text: "type=image,compatibility-version=20", want: imageExporter{look: look{compat: 20, dockerTypes: true}}},
		{text: "type=image,compatibility-version=20,oci-mediatypes=true", want: imageExporter{look: look{compat: 20}}},
		{text: "type=oci,dest=x,compatibility-version=10", want: ociExporter{look: look{compat: 10}, archive: archive{dest: "x"}}},
		{text: "type=image,compatibility-version=40", err: "compatibility-version=40"},
		{text: "type=image,oci-artifact=true", err: "no"},
		{text: "type=image,attestation-inline=true", err: "--output attestation-inline is not supported"},
		{text: "type=local,dest=x,attestation-prefix=p", err: "--output attestation-prefix is not supported"},
		{text: "type=docker,context=far", want: engineExporter{engine: engines.Docker, context: "far"}},
		{text: "type=docker,context=far,dest=x", err: "no dest"},
		{text: "type=docker,tar=false", err: "dest is missing"},
		{text: "type=docker,dest=x,tar=false", want: dockerExporter{archive: archive{dest: "x", dir: true}}},
		{text: "type=image,compression=gzip,compression-level=10", err: "compression-level=10"},
		{text: "type=image,compression=zstd,oci-mediatypes=false", err: "oci-mediatypes=false"},
		{text: "type=image,push-by-digest=true", err: "push-by-digest"},
		{text: "type=image,annotation.a.B=c", want: imageExporter{look: look{annotations: []Annotation{{kinds: []string{"manifest"}, key: "a.B", value: "c"}}}}},
		{text: "type=image,annotation-index.a=c", err: "has no index"},
		{text: "type=image,annotation-nothing.a=c", err: `unknown type "nothing"`},
		{text: "type=image,annotations=c", err: "--output annotations is not supported"},
		{text: "dest=x", err: "type is missing"},
	} {
		got, err := parse(c.text)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.text, err, c.err)
			}
		case err != nil || !reflect.DeepEqual(got, c.want):
			t.Errorf("%q: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
}

// TestElsewhere has files taken by somebody who knows where to.
func TestElsewhere(t *testing.T) {
	for kind, want := range map[string]Exporter{
		OCI: ociExporter{}, Docker: dockerExporter{}, Tar: tarExporter{}, Local: localExporter{},
	} {
		got, err := Parse(Spec{Kind: kind, Elsewhere: true})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", kind, got, err, want)
		}
		if got.Kind() != kind {
			t.Errorf("%s: kind %s", kind, got.Kind())
		}
	}
	e, err := Parse(Spec{Kind: Image, Attrs: []Attr{{"name", "a,b"}, {"PUSH", "true"}}, Elsewhere: true})
	if want := (imageExporter{look: look{names: []string{"a", "b"}}, push: true}); err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("got %+v, %v, want %+v", e, err, want)
	}
}
