package flags

import (
	"layered.build/builder/parser/mistake"
	"layered.build/builder/planner"
	"layered.build/builder/registry/config"
)

// config is what the configuration files say.
func (e Environment) config() (*config.Config, error) {
	if e.Config == nil {
		return &config.Config{}, nil
	}
	return e.Config()
}

// scope is --arg-scope, or what the environment or else the configuration says.
func (f *Build) scope(in Environment) (planner.ArgScope, error) {
	from, value := "--arg-scope", f.argScope
	if value == "" {
		from, value = "BUILDER_ARG_SCOPE", in.getenv("BUILDER_ARG_SCOPE")
	}
	if value == "" {
		conf, err := in.config()
		if err != nil {
			return "", err
		}
		from, value = "config.toml: build.arg-scope", conf.Build.ArgScope
	}
	scope, ok := planner.ParseArgScope(value)
	if !ok {
		return "", mistake.New("%s: %q is not a scope", from, value).WithHint("use all or used")
	}
	return scope, nil
}
