package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pelletier/go-toml/v2"
)

// gcSettings is the table [gc] of config.toml: how large the store may become.
type gcSettings struct {
	Enabled  *bool  `toml:"enabled"`
	Reserved string `toml:"reserved-space"`
	MaxUsed  string `toml:"max-used-space"`
	MinFree  string `toml:"min-free-space"`
}

// ReadGC returns the settings of the table [gc] of the configuration by their
// names; the user's file has precedence.
func ReadGC() (map[string]string, error) {
	out := map[string]string{}
	for _, path := range systemConfigFiles().builder {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		var cfg struct {
			GC gcSettings `toml:"gc"`
		}
		if err := toml.Unmarshal(data, &cfg); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", path, ErrInvalid, err)
		}
		enabled := ""
		if cfg.GC.Enabled != nil {
			enabled = fmt.Sprint(*cfg.GC.Enabled)
		}
		for name, value := range map[string]string{
			"enabled": enabled, "reserved-space": cfg.GC.Reserved,
			"max-used-space": cfg.GC.MaxUsed, "min-free-space": cfg.GC.MinFree,
		} {
			if out[name] == "" && value != "" {
				out[name] = value
			}
		}
	}
	return out, nil
}
