// Package config reads the files in which the administrator and the user say how
// registries are reached and how large the store may become: builder's own config.toml
// and the containers' registries.conf.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"layered.build/builder/registry/errdef"
)

// Config is what the files say.
type Config struct {
	// Registries are the tables [registry."DOMAIN"] of config.toml, those of the
	// user's file first.
	Registries []Registry
	// GC is the table [gc] of config.toml.
	GC GC
	// Build is the table [build] of config.toml.
	Build Build
	// Cache is the table [cache] of config.toml.
	Cache Cache
	// Rules are those of registries.conf.
	Rules []Rule
	// Problems are what the user should know of files that do not count.
	Problems []string
}

// Registry is how one registry is reached:
//
//	[registry."docker.io"]
//	mirrors = ["http://127.0.0.1:5000", "https://mirror.example.com/hub"]
//
//	[registry."registry.example.com:5000"]
//	insecure = true     # http, or a certificate that does not verify
type Registry struct {
	Domain   string
	Mirrors  []Mirror
	Insecure bool
}

// GC says how large the store may become. The sizes are as they were written, "" where
// nothing is said.
type GC struct {
	Enabled  *bool  `toml:"enabled"`
	Reserved string `toml:"reserved-space"`
	MaxUsed  string `toml:"max-used-space"`
	MinFree  string `toml:"min-free-space"`
	// UnusedImages is after which time without use, such as 720h, images with a name may
	// go as well.
	UnusedImages string `toml:"unused-images"`
}

// Build has defaults of builds, "" where nothing is said.
type Build struct {
	// ArgScope says which RUN instructions an ARG reaches, as --arg-scope does.
	ArgScope string `toml:"arg-scope"`
}

// Cache has the shared caches of builds, as --cache-from and --cache-to take them; nil
// where nothing is said.
type Cache struct {
	From []string `toml:"from"`
	To   []string `toml:"to"`
}

// Files are where the configuration is. Those that do not exist count as empty.
type Files struct {
	// Program has the config.toml files, the user's first: it has precedence.
	Program []string
	// Containers is registries.conf, and DropIns are the folders with more of it.
	Containers string
	DropIns    []string
	// User, unless "", is a folder of which nothing is required: what cannot be reached
	// there counts as empty, and is a problem.
	User string
	// Problems are what was found on the way to the files.
	Problems []string
}

// SystemFiles are the files of this machine and this user.
func SystemFiles() Files {
	user := UserFolder()
	files := Files{
		User: user, Problems: FolderProblems(),
		Containers: os.Getenv("CONTAINERS_REGISTRIES_CONF"),
		DropIns:    []string{"/etc/containers/registries.conf.d"},
	}
	if user != "" {
		files.Program = append(files.Program, filepath.Join(user, "builder", "config.toml"))
		files.DropIns = append(files.DropIns, filepath.Join(user, "containers", "registries.conf.d"))
		if conf := filepath.Join(user, "containers", "registries.conf"); files.Containers == "" && exists(conf) {
			files.Containers = conf
		}
	}
	files.Program = append(files.Program, "/etc/builder/config.toml")
	if files.Containers == "" {
		files.Containers = "/etc/containers/registries.conf"
	}
	return files
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Read reads the files. Errors name the file; they match errdef.ErrInvalid where it is
// malformed or has unknown settings.
func (f Files) Read() (*Config, error) {
	c := &Config{Problems: f.Problems}
	for _, path := range f.Program {
		data, err := f.read(path, c)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		if err := c.readProgram(path, data); err != nil {
			return nil, err
		}
	}
	return c, c.readRegistriesConf(f)
}

// read reads a file that need not exist.
func (f Files) read(path string, c *Config) ([]byte, error) {
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil && f.User != "" && strings.HasPrefix(path, strings.TrimSuffix(f.User, "/")+"/"):
		c.Problems = append(c.Problems, unreachable(path, err))
		return nil, nil
	}
	return data, err
}

// programFile is a file config.toml.
type programFile struct {
	Registry map[string]struct {
		Mirrors  []string `toml:"mirrors"`
		Insecure bool     `toml:"insecure"`
	} `toml:"registry"`
	GC    GC    `toml:"gc"`
	Build Build `toml:"build"`
	Cache Cache `toml:"cache"`
}

// readProgram adds what a file says and those before it did not.
func (c *Config) readProgram(path string, data []byte) error {
	var file programFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&file); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return fmt.Errorf("%s: %w: unknown settings:\n%s", path, errdef.ErrInvalid, strict.String())
		}
		return fmt.Errorf("%s: %w: %w", path, errdef.ErrInvalid, err)
	}
	for domain, reg := range file.Registry {
		r := Registry{Domain: domain, Insecure: reg.Insecure}
		for _, m := range reg.Mirrors {
			parsed, err := ParseMirror(m)
			if err != nil {
				return fmt.Errorf("%s: registry mirror for %s: %w", path, domain, err)
			}
			r.Mirrors = append(r.Mirrors, parsed)
		}
		c.Registries = append(c.Registries, r)
	}
	c.GC.fill(file.GC)
	if c.Cache.From == nil {
		c.Cache.From = file.Cache.From
	}
	if c.Cache.To == nil {
		c.Cache.To = file.Cache.To
	}
	c.Build.ArgScope = cmp.Or(c.Build.ArgScope, file.Build.ArgScope)
	return nil
}

// fill takes from another what is not said yet.
func (g *GC) fill(from GC) {
	if g.Enabled == nil {
		g.Enabled = from.Enabled
	}
	g.Reserved = cmp.Or(g.Reserved, from.Reserved)
	g.MaxUsed = cmp.Or(g.MaxUsed, from.MaxUsed)
	g.MinFree = cmp.Or(g.MinFree, from.MinFree)
	g.UnusedImages = cmp.Or(g.UnusedImages, from.UnusedImages)
}
