package command

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// completions are what shells run when they start. kraft itself knows what fits: it is asked with the words so far.
var completions = map[string]string{
	"bash": `_kraft() {
  local word=${COMP_WORDS[COMP_CWORD]}
  local words=("${COMP_WORDS[@]:0:COMP_CWORD}")
  [[ $word == -* ]] && words+=("$word")
  COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$word"))
}
complete -o bashdefault -o default -F _kraft kraft
`,
	"zsh": `#compdef kraft
_kraft() {
  local -a found
  local word=${words[-1]}
  if [[ $word == -* ]]; then
    found=("${(@f)$(${words[@]:0:#words[@]-1} $word --generate-bash-completion 2>/dev/null)}")
  else
    found=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ -n ${found[1]} ]]; then
    _describe 'values' found
  else
    _files
  fi
}
compdef _kraft kraft
`,
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete kraft's commands and options",
		UsageText: "kraft completion bash|zsh|fish",
		Description: `bash:  source <(kraft completion bash)            in ~/.bashrc
zsh:   source <(kraft completion zsh)             in ~/.zshrc, behind compinit
fish:  kraft completion fish > ~/.config/fish/completions/kraft.fish`,
		OnUsageError: usageError,
		Action: withArguments(func(c *cli.Context, args []string) error {
			text, ok := completions[args[0]]
			if args[0] == "fish" {
				var err error
				if text, err = c.App.ToFishCompletion(); err != nil {
					return err
				}
				ok = true
			}
			if !ok || len(args) > 1 {
				return badUse("kraft completion takes bash, zsh or fish, not %q", args[0])
			}
			fmt.Fprint(c.App.Writer, text)
			return nil
		}),
	}
}

// build is what version tells of the program.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"` // of the sources, where they were built in their repository
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version, and what it was built from", UsageText: "kraft version [--json]",
		OnUsageError: usageError, Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			b := build{Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						b.Revision = s.Value
					}
				}
			}
			return tell(c, b)
		},
	}
}

func (b build) text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "kraft %s %s %s %s\n", b.Version, b.Platform, b.Go, b.Revision)
	return err
}
