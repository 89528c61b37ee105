package cli

import (
	"github.com/spf13/pflag"

	"layered.build/builder/executor/sshagent"
)

// langFlags are the flags that say what RUN instructions get and how the
// Dockerfile is read.
type langFlags struct {
	ssh   []string
	call  string
	check bool
	debug bool
}

func (l *langFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&l.call, "call", "build", "what to do: build, check, outline or targets; with ,format=json")
	fs.BoolVar(&l.check, "check", false, "check the Dockerfile only; the same as --call=check")
	fs.BoolVarP(&l.debug, "debug", "D", false, "show every warning with its explanation and its lines")
	fs.StringArrayVar(&l.ssh, "ssh", nil, "ssh agent for RUN --mount=type=ssh: default, ID, or ID=SOCKET|KEY[,KEY...]")
}

// agents opens the ssh agents.
func (l *langFlags) agents(getenv func(string) string) (sshagent.Agents, error) {
	out := sshagent.Agents{}
	for _, v := range l.ssh {
		id, src, err := sshagent.Parse(v)
		if err != nil {
			return nil, usagef("--ssh %q: %w", v, err)
		}
		if out[id] != nil {
			return nil, usagef("--ssh %q: the id %s is given twice", v, id)
		}
		if out[id], err = sshagent.Open(src, getenv); err != nil {
			return nil, usagef("--ssh %q: %w", v, err)
		}
	}
	return out, nil
}
