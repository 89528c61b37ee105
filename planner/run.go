package planner

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	bk "github.com/moby/buildkit/frontend/dockerfile/parser"

	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
	"layered.build/builder/planner/shelltext"
)

func (in *instruction) run(cmd *instructions.RunCommand) error {
	if err := in.refuseRun(cmd); err != nil {
		return err
	}
	st := in.st
	ins := newInputs(st.rootfs)
	exec := &dag.Exec{
		Cwd: in.cwd(), User: st.conf.Image.Config.User,
		Mounts:   []dag.Mount{{Type: dag.MountBind, Input: 0, Dest: "/"}},
		Hostname: in.opts.Hostname, Hosts: slices.Clone(in.opts.Hosts),
		Ulimits: slices.Clone(in.opts.Ulimits), ShmSize: in.opts.ShmSize, Network: in.opts.Network,
	}
	args, text, err := in.commandArgs(cmd, exec, &ins)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("RUN requires a command")
	}
	exec.Args = args
	vars, buildArgs := in.reaching(cmd, args)
	exec.Env = vars.List()
	switch instructions.GetNetwork(cmd) {
	case instructions.NetworkNone:
		exec.Network = dag.NetNone
	case instructions.NetworkHost:
		exec.Network = dag.NetHost
	}
	if instructions.GetSecurity(cmd) == instructions.SecurityInsecure {
		exec.Security = dag.SecurityInsecure
	}
	if err := in.mounts(cmd, exec, &ins); err != nil {
		return err
	}
	for _, d := range instructions.GetDevices(cmd) {
		exec.Devices = append(exec.Devices, dag.Device{Name: d.Name, Required: d.Required})
	}
	in.opts.Run.apply(exec)
	in.outlineMounts(exec)
	idle := in.lintRun(cmd)
	s := in.step(exec, ins, display(in.runLex(), text, maskSecrets(st.env, exec)))
	s.Meta.NoCache, s.Meta.Limits, s.Meta.ProxyEnv = in.reuse.Never || s.Unkeyed(), in.opts.Limits, in.proxy
	for _, a := range buildArgs {
		s.Meta.Args = append(s.Meta.Args, a.Key)
	}
	s.Meta.IdleArgs = idle
	in.advance(s, "RUN "+runHistory(args, buildArgs, st.env)+" # buildkit")
	return nil
}

// refuseRun refuses what RUN may ask for and does not get.
func (in *instruction) refuseRun(cmd *instructions.RunCommand) error {
	return in.refuseForeign(cmd)
}

func (in *instruction) cwd() string {
	wd, err := in.st.slashed(in.st.conf.Image.Config.WorkingDir)
	if err != nil { // an image's; WORKDIR has been checked
		wd = ""
	}
	return path.Join("/", wd)
}

// commandArgs returns what is executed and the instruction as users see it. A
// here-document that is a script of its own is mounted.
func (in *instruction) commandArgs(cmd *instructions.RunCommand, exec *dag.Exec, ins *inputs) ([]string, string, error) {
	args, text := cmd.CmdLine, cmd.String()
	if len(cmd.Files) > 0 {
		if len(args) != 1 || !cmd.PrependShell {
			return nil, "", fmt.Errorf("a here-document needs the shell form of RUN")
		}
		if bk.MustParseHeredoc(args[0]) == nil {
			args = []string{rejoin(args[0], cmd.Files)} // the shell reads it
		} else {
			body := cmd.Files[0].Data
			if cmd.Files[0].Chomp {
				body = bk.ChompHeredocContent(body)
			}
			text += " (" + shelltext.Summary(body) + ")"
			if strings.HasPrefix(body, "#!") {
				return in.script(cmd.Files[0].Name, body, text, exec, ins)
			}
			args = []string{body}
		}
	}
	if cmd.PrependShell {
		args = withShell(&in.st.conf.Image, args)
	}
	return args, text, nil
}

// pipesDir is where the body of a here-document that begins with #! is mounted.
const pipesDir = "/dev/pipes"

func (in *instruction) script(name, body, text string, exec *dag.Exec, ins *inputs) ([]string, string, error) {
	if err := checkHeredocName(name); err != nil {
		return nil, "", err
	}
	file := in.internal(&dag.File{Actions: []dag.Action{{
		Mkfile: &dag.Mkfile{Path: "/" + name, Mode: 0o755, Data: []byte(body)},
	}}}, "preparing inline document")
	exec.Mounts = append(exec.Mounts, dag.Mount{
		Type: dag.MountBind, Input: ins.add(dag.Edge{Step: file}, "inline document", 1), Dest: pipesDir, ReadOnly: true,
	})
	return withShell(&in.st.conf.Image, []string{path.Join(pipesDir, name)}), text, nil
}

func checkHeredocName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("the here-document's name %q cannot be a file name", name)
	}
	return nil
}

// rejoin puts here-documents back behind the command that reads them.
func rejoin(line string, files []instructions.ShellInlineFile) string {
	var b strings.Builder
	b.WriteString(line)
	for _, f := range files {
		b.WriteString("\n" + f.Data + f.Name)
	}
	return b.String()
}

// runHistory is a RUN's text in the history: the arguments in scope, each once
// with the value that the process sees, and the command.
func runHistory(args []string, buildArgs []instructions.KeyValuePairOptional, e settings.Env) string {
	var vars []string
	index := map[string]int{}
	for _, a := range buildArgs {
		v, ok := e.Get(a.Key)
		if !ok {
			v = a.ValueString()
		}
		if i, ok := index[a.Key]; ok {
			vars[i] = a.Key + "=" + v
			continue
		}
		index[a.Key] = len(vars)
		vars = append(vars, a.Key+"="+v)
	}
	words := args
	if len(vars) > 0 {
		words = slices.Concat([]string{fmt.Sprintf("|%d", len(vars))}, vars, args)
	}
	return strings.Join(words, " ")
}

// maskSecrets hides variables that secrets fill.
func maskSecrets(e settings.Env, exec *dag.Exec) settings.Env {
	for _, s := range exec.SecretEnv {
		e = e.With(s.Name, "****")
	}
	return e
}
