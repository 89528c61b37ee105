package cli

import (
	"github.com/spf13/pflag"

	"layered.build/builder/executor/sshagent"
)

// langFlags are the flags that say what RUN instructions get and how the
// Dockerfile is read.
type langFlags struct {
	ssh []string
}

func (l *langFlags) register(fs *pflag.FlagSet) {
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
