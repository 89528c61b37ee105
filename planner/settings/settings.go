// Package settings has what the instructions of a stage change: the configuration of the
// image and what each of them left of it, and the variables that are in scope.
package settings

import (
	"maps"
	"slices"
	"strings"

	image "github.com/moby/docker-image-spec/specs-go/v1"
)

// Image is Docker's image configuration.
type Image = image.DockerOCIImage

// Clone copies a configuration so that nothing is shared. History and
// rootfs are immutable here and stay shared.
func Clone(src Image) Image {
	img := src
	img.Platform.OSFeatures = slices.Clone(src.Platform.OSFeatures)
	c := &img.Config
	c.Env = slices.Clone(c.Env)
	c.Cmd = slices.Clone(c.Cmd)
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.OnBuild = slices.Clone(c.OnBuild)
	c.Shell = slices.Clone(c.Shell)
	c.ExposedPorts = maps.Clone(c.ExposedPorts)
	c.Volumes = maps.Clone(c.Volumes)
	c.Labels = maps.Clone(c.Labels)
	if c.Healthcheck != nil {
		h := *c.Healthcheck
		h.Test = slices.Clone(h.Test)
		c.Healthcheck = &h
	}
	return img
}

// Configuration is the configuration that an instruction left, without rootfs and history.
// It is immutable. Of what most instructions only add to it says what was added to the one
// before, so that many instructions do not take the square of their number.
type Configuration struct {
	before *Configuration // nil: rest is all of it
	rest   Image          // without what Additions have; nobody changes it
	added  Additions
}

// Additions are what was set on top of a configuration, in the order in which it was:
// variables and labels (name, value), ports and volumes.
type Additions struct {
	Env, Labels    [][2]string
	Ports, Volumes []string
}

// Before is the configuration that Additions were added to, nil if there is none.
func (c *Configuration) Before() *Configuration { return c.before }

// Additions are what this configuration has and the one before has not, which belong to it;
// everything else is as Rest says.
func (c *Configuration) Additions() Additions { return c.added }

// Rest is the configuration without variables, labels, ports and volumes, of one that has
// something Before. What it points at belongs to the Configuration.
func (c *Configuration) Rest() Image { return c.rest }

// Image makes the whole configuration, which is the caller's.
func (c *Configuration) Image() Image {
	var line []*Configuration
	root := c
	for ; root.before != nil; root = root.before {
		line = append(line, root)
	}
	img := Clone(c.rest)
	whole := Settings{Image: Clone(root.rest)}
	for _, l := range slices.Backward(line) {
		whole.add(l.added)
	}
	keepAdded(&img, &whole.Image)
	return img
}

// keepAdded has an image take over from another what Additions are added to.
func keepAdded(img, from *Image) {
	c, f := &img.Config, &from.Config
	c.Env, c.Labels, c.ExposedPorts, c.Volumes = f.Env, f.Labels, f.ExposedPorts, f.Volumes
}

// Settings are a configuration that is being changed. Variables, labels, ports and volumes
// are set by methods only.
type Settings struct {
	Image Image
	left  *Configuration // what the last instruction left; nil: none did
	more  Additions      // what was added since
	at    map[string]int // where variables are in Image's Env; nil until it is needed
}

// Clone returns settings that can be changed by themselves.
func (s *Settings) Clone() Settings {
	c := Settings{Image: Clone(s.Image), left: s.left, more: s.more}
	c.more.Env, c.more.Labels = slices.Clone(s.more.Env), slices.Clone(s.more.Labels)
	c.more.Ports, c.more.Volumes = slices.Clone(s.more.Ports), slices.Clone(s.more.Volumes)
	return c
}

// Leave returns the configuration as it is now.
func (s *Settings) Leave() *Configuration {
	c := &Configuration{before: s.left, added: s.more}
	if s.left == nil {
		c.rest, c.added = Clone(s.Image), Additions{}
	} else {
		rest := s.Image
		keepAdded(&rest, &Image{})
		c.rest = Clone(rest)
	}
	s.left, s.more = c, Additions{}
	return c
}

func (s *Settings) add(a Additions) {
	for _, kv := range a.Env {
		s.SetEnv(kv[0], kv[1])
	}
	for _, kv := range a.Labels {
		s.SetLabel(kv[0], kv[1])
	}
	for _, p := range a.Ports {
		s.Expose(p)
	}
	for _, v := range a.Volumes {
		s.AddVolume(v)
	}
}

// SetEnv sets a variable, in its place if it is there already.
func (s *Settings) SetEnv(key, value string) {
	c := &s.Image.Config
	if s.at == nil {
		s.at = make(map[string]int, len(c.Env))
		for i, kv := range slices.Backward(c.Env) { // of several the first counts
			k, _, _ := strings.Cut(kv, "=")
			s.at[k] = i
		}
	}
	if i, ok := s.at[key]; ok {
		c.Env[i] = key + "=" + value
	} else {
		s.at[key] = len(c.Env)
		c.Env = append(c.Env, key+"="+value)
	}
	s.more.Env = append(s.more.Env, [2]string{key, value})
}

// SetLabel sets a label.
func (s *Settings) SetLabel(key, value string) {
	put(&s.Image.Config.Labels, key, value)
	s.more.Labels = append(s.more.Labels, [2]string{key, value})
}

// Expose adds a port.
func (s *Settings) Expose(port string) {
	put(&s.Image.Config.ExposedPorts, port, struct{}{})
	s.more.Ports = append(s.more.Ports, port)
}

// AddVolume adds a volume.
func (s *Settings) AddVolume(path string) {
	put(&s.Image.Config.Volumes, path, struct{}{})
	s.more.Volumes = append(s.more.Volumes, path)
}

func put[V any](m *map[string]V, key string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = value
}
