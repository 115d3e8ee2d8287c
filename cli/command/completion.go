package command

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// completions are what shells run when they start. kraft itself knows what fits: it is asked with the words so far.
var completions = map[string]string{
	"bash": `_kraft() {
  local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} words found
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local whole=${words[${#words[@]}-1]}
  local before=${whole%"$word"}
  COMPREPLY=()
  while IFS= read -r found; do
    [[ $found == "$whole"* ]] && COMPREPLY+=("${found#"$before"}")
  done < <("${COMP_WORDS[0]}" __complete "${words[@]:1}" 2>/dev/null)
  [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && type compopt >/dev/null 2>&1 && compopt -o nospace
}
complete -o bashdefault -o default -F _kraft kraft
`,
	"zsh": `#compdef kraft
_kraft() {
  local -a found
  found=("${(@f)$(kraft __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n ${found[1]} ]]; then
    compadd -a found
  else
    _files
  fi
}
compdef _kraft kraft
`,
	"fish": `complete -c kraft -a '(kraft __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
	"powershell": `Register-ArgumentCompleter -Native -CommandName kraft -ScriptBlock {
  param($word, $ast, $position)
  $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { "$_" })
  if ($word -eq '') { $words += '""' }
  & kraft __complete @words 2>$null | Where-Object { $_ -like "$word*" } | ForEach-Object {
    [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_)
  }
}
`,
}

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print what makes a shell complete kraft's commands, options and names",
		UsageText: "kraft completion bash|zsh|fish|powershell",
		Description: `Topics, groups, brokers, profiles and settings are completed, too; names come from the cluster that the command would ask.

bash:        source <(kraft completion bash)            in ~/.bashrc
zsh:         source <(kraft completion zsh)             in ~/.zshrc, behind compinit
fish:        kraft completion fish > ~/.config/fish/completions/kraft.fish
PowerShell:  kraft completion powershell | Out-String | Invoke-Expression    in $PROFILE`,
		Action: withArguments(func(c *cli.Context, args []string) error {
			text, ok := completions[args[0]]
			if !ok || len(args) > 1 {
				return badUse("kraft completion takes bash, zsh, fish or powershell, not %q", strings.Join(args, " "))
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
			return tell(c, thisBuild())
		},
	}
}

func thisBuild() build {
	b := build{Version: Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}

func (b build) text(w io.Writer) error {
	_, err := fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("kraft %s %s %s %s", b.Version, b.Platform, b.Go, b.Revision)))
	return err
}
