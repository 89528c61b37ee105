package planner

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"layered.build/builder/planner/dag"
	"layered.build/builder/planner/settings"
)

// config lowers the instructions that change the configuration only.
func (in *instruction) config() error {
	c := &in.st.conf.Image.Config
	switch cmd := in.cmd.Command.(type) {
	case *instructions.EnvCommand:
		in.env(cmd)
	case *instructions.LabelCommand:
		in.label(cmd)
	case *instructions.MaintainerCommand:
		in.st.conf.Image.Author = cmd.Maintainer
		in.record("MAINTAINER "+cmd.Maintainer, nil)
	case *instructions.OnbuildCommand:
		c.OnBuild = append(c.OnBuild, cmd.Expression) // no history, as BuildKit
	case *instructions.CmdCommand:
		c.Cmd = in.commandLine(cmd.ShellDependantCmdLine)
		//lint:ignore SA1019 deprecated, but part of what BuildKit writes, and so of the digest
		c.ArgsEscaped = true
		in.record(fmt.Sprintf("CMD %q", c.Cmd), nil)
	case *instructions.EntrypointCommand:
		c.Entrypoint = in.commandLine(cmd.ShellDependantCmdLine)
		if in.st.once["CMD"] == nil {
			c.Cmd = nil // an inherited CMD belongs to the inherited ENTRYPOINT
		}
		in.record(fmt.Sprintf("ENTRYPOINT %q", c.Entrypoint), nil)
	case *instructions.HealthCheckCommand:
		in.lintOnce()
		h := *cmd.Health
		c.Healthcheck = &h
		in.record(fmt.Sprintf("HEALTHCHECK %+v", h), nil)
	case *instructions.UserCommand:
		c.User = cmd.User
		in.record("USER "+cmd.User, nil)
	case *instructions.VolumeCommand:
		return in.volume(cmd)
	case *instructions.StopSignalCommand:
		if !settings.ValidSignal(cmd.Signal) {
			return fmt.Errorf("invalid signal: %s", cmd.Signal)
		}
		c.StopSignal = cmd.Signal
		in.record("STOPSIGNAL "+cmd.Signal, nil)
	case *instructions.ShellCommand:
		c.Shell = cmd.Shell
		in.record(fmt.Sprintf("SHELL %v", cmd.Shell), nil)
	default:
		return in.unsupported(in.cmd.Location(), strings.ToUpper(in.cmd.Name()), "")
	}
	return nil
}

func (in *instruction) env(cmd *instructions.EnvCommand) {
	text := "ENV"
	for _, kv := range cmd.Env {
		in.lintLegacy(kv)
		in.lintSecret("ENV", kv.Key)
		text += " " + kv.String()
		in.st.env = in.st.env.With(kv.Key, kv.Value)
		in.st.conf.SetEnv(kv.Key, kv.Value)
	}
	in.record(text, nil)
}

func (in *instruction) label(cmd *instructions.LabelCommand) {
	text := "LABEL"
	for _, kv := range cmd.Labels {
		in.lintLegacy(kv)
		in.st.conf.SetLabel(kv.Key, kv.Value)
		text += " " + kv.String()
	}
	in.record(text, nil)
}

// commandLine is the stored form of CMD and ENTRYPOINT.
func (in *instruction) commandLine(line instructions.ShellDependantCmdLine) []string {
	in.lintOnce()
	if !line.PrependShell {
		return line.CmdLine
	}
	in.lintShellForm()
	return withShell(&in.st.conf.Image, line.CmdLine)
}

func (in *instruction) volume(cmd *instructions.VolumeCommand) error {
	for _, v := range cmd.Volumes {
		if v == "" {
			return errors.New("VOLUME specified can not be an empty string")
		}
		in.st.conf.AddVolume(v)
	}
	in.record(fmt.Sprintf("VOLUME %v", cmd.Volumes), nil)
	return nil
}

// workdir makes the directory, owned by the user in force; "/" exists.
func (in *instruction) workdir(cmd *instructions.WorkdirCommand) error {
	st := in.st
	wd, err := st.slashed(cmd.Path)
	if err != nil {
		return err
	}
	if !st.workdirSet && !path.IsAbs(wd) {
		in.lint.Run(&linter.RuleWorkdirRelativePath, cmd.Location(), linter.RuleWorkdirRelativePath.Format(cmd.Path))
	}
	st.workdirSet = true
	if !path.IsAbs(wd) {
		wd = path.Join(in.cwd(), wd)
	}
	st.conf.Image.Config.WorkingDir = st.native(wd)
	if path.Clean(wd) == "/" {
		in.record("WORKDIR "+wd, nil)
		return nil
	}
	mkdir := &dag.Mkdir{Path: path.Clean(wd), Mode: 0o755, MakeParents: true, Owner: owner(st.conf.Image.Config.User)}
	op := &dag.File{Base: true, Actions: []dag.Action{{Mkdir: mkdir}}}
	in.advance(in.step(op, newInputs(st.rootfs), display(in.lex, cmd.String(), st.env)), "WORKDIR "+wd)
	return nil
}

// arg lowers ARG: build argument, else default, else the global value.
func (in *instruction) arg(cmd *instructions.ArgCommand) error {
	var texts []string
	for _, a := range cmd.Args {
		in.lintSecret("ARG", a.Key)
		in.lintVolatile(a.Key)
		given, isGiven := in.args[a.Key]
		inherited := a.Value == nil && in.declared[a.Key]
		switch {
		case isGiven:
			a.Value = &given
		case a.Value != nil:
			v, err := in.word(in.lex, *a.Value)
			if err != nil {
				return err
			}
			a.Value = &v
		default:
			if v, ok := in.globals.Get(a.Key); ok {
				a.Value = &v
			}
		}
		in.outlineArg(a, inherited, cmd.Location())
		text := a.Key
		if a.Value != nil {
			text += "=" + *a.Value
			in.st.env = in.st.env.WithArg(a.Key, *a.Value)
		}
		texts = append(texts, text)
		in.st.buildArgs = append(in.st.buildArgs, a)
	}
	in.record("ARG "+strings.Join(texts, " "), nil)
	return nil
}

// collectArgs notes the names that ARG instructions of the file declare.
func (b *builder) collectArgs(defs []instructions.Stage, global declared) {
	if b.usedArgs == nil {
		b.usedArgs = map[string]bool{}
	}
	for k := range global {
		b.usedArgs[k] = true
	}
	for _, def := range defs {
		for _, c := range def.Commands {
			if arg, ok := c.(*instructions.ArgCommand); ok {
				for _, kv := range arg.Args {
					b.usedArgs[kv.Key] = true
				}
			}
		}
	}
}
