package planner

import (
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/planner/settings"
)

// predefinedArgs are the arguments that exist without a declaration before FROM.
func predefinedArgs(build, target ocispec.Platform, overrides map[string]string, stage string) settings.Env {
	if stage == "" {
		stage = "default"
	}
	var args settings.Env
	for _, v := range [][2]string{
		{"BUILDPLATFORM", platforms.Format(build)},
		{"BUILDOS", build.OS},
		{"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture},
		{"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	} {
		if o, ok := overrides[v[0]]; ok {
			v[1] = o
		}
		args = args.With(v[0], v[1])
	}
	return args
}

// declared are the names that ARG instructions before the first FROM declare.
type declared map[string]bool

// metaArgs adds the arguments that are declared before the first FROM.
func metaArgs(args settings.Env, lex *shell.Lex, cmds []instructions.ArgCommand, buildArgs map[string]string) (settings.Env, declared, error) {
	names := declared{}
	for _, cmd := range cmds {
		for _, kv := range cmd.Args {
			names[kv.Key] = true
			value := kv.Value
			if v, ok := buildArgs[kv.Key]; ok {
				value = &v
			} else if value != nil {
				res, err := lex.ProcessWordWithMatches(*value, args)
				if err != nil {
					return args, nil, bk.WithLocation(err, cmd.Location())
				}
				value = &res.Result
			}
			if value != nil {
				args = args.With(kv.Key, *value)
			}
		}
	}
	return args, names, nil
}

// proxyNames are the arguments that need no declaration, reach every RUN, and
// take no part in what a step is.
var proxyNames = [...]string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}

// proxyEnv returns the proxy arguments under both of their spellings.
func proxyEnv(buildArgs map[string]string) []string {
	var out []string
	for _, name := range proxyNames {
		value := ""
		for _, k := range slices.Sorted(maps.Keys(buildArgs)) {
			if strings.EqualFold(k, name) {
				value = buildArgs[k]
			}
		}
		if value != "" {
			out = append(out, name+"="+value, strings.ToLower(name)+"="+value)
		}
	}
	return out
}

// unusedArgs returns the build arguments that no ARG declares and that mean
// nothing by themselves.
func unusedArgs(buildArgs map[string]string, used map[string]bool) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(buildArgs)) {
		if !used[k] && !predefined(k) {
			out = append(out, k)
		}
	}
	return out
}

func predefined(name string) bool {
	if slices.Contains(proxyNames[:], strings.ToUpper(name)) {
		return true
	}
	if _, ok := predefinedArgs(ocispec.Platform{}, ocispec.Platform{}, nil, "").Get(name); ok {
		return true
	}
	return name == epochArg || name == hostnameArg || name == syntaxArg || name == checkArg || name == cacheNamespaceArg || name == inlineCacheArg
}
