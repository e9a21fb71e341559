import { Argument, type Command, type Option } from "commander";
import type { CliIo } from "../io";

const shells = ["bash", "zsh", "fish"] as const;
type Shell = (typeof shells)[number];

/** What can stand behind the name of a command: its options with their values. */
interface Completed {
  name: string;
  description: string;
  options: { flag: string; description: string; values: readonly string[]; takesValue: boolean }[];
}

/** `reroute completion <shell>`: a script that completes commands, options and their values. */
export function addCompletion(program: Command, io: CliIo): void {
  program
    .command("completion")
    .description("print a completion script for a shell")
    .addArgument(new Argument("<shell>", "shell").choices([...shells]))
    .action((shell: Shell) => {
      const commands = program.commands.map(completedOf);
      io.out({ bash, zsh, fish }[shell](commands));
    });
}

function completedOf(command: Command): Completed {
  const options = command.options.flatMap((option: Option) =>
    option.long == null
      ? []
      : [
          {
            flag: option.long,
            description: option.description,
            values: option.argChoices ?? [],
            takesValue: option.required || option.optional,
          },
        ],
  );
  return { name: command.name(), description: command.description(), options };
}

/** Files complete wherever a value is free: most values are paths. */
function bash(commands: Completed[]): string {
  const cases = commands.map(
    ({ name, options }) => `    ${name}) words="${options.map(({ flag }) => flag).join(" ")}" ;;`,
  );
  return `# bash: eval "$(reroute completion bash)"
_reroute() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" words=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]} $previous" in
${valueCases(commands)}
  esac
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
  if [[ "$current" == -* ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); else COMPREPLY=($(compgen -f -- "$current")); fi
}
complete -o filenames -F _reroute reroute
`;
}

function valueCases(commands: Completed[]): string {
  const rows = commands.flatMap(({ name, options }) =>
    options
      .filter(({ values }) => values.length > 0)
      .map(
        ({ flag, values }) =>
          `    "${name} ${flag}") COMPREPLY=($(compgen -W "${values.join(" ")}" -- "$current")); return ;;`,
      ),
  );
  return rows.join("\n");
}

function zsh(commands: Completed[]): string {
  const described = commands.map(({ name, description }) => `    '${name}:${zshText(description)}'`);
  const cases = commands.map(({ name, options }) => {
    const specs = options.map(({ flag, description, values, takesValue }) => {
      const value = values.length > 0 ? `:value:(${values.join(" ")})` : takesValue ? ":value:_files" : "";
      return `'${flag}[${zshText(description)}]${value}'`;
    });
    return `    ${name}) _arguments ${[...specs, "'*:file:_files'"].join(" ")} ;;`;
  });
  return `#compdef reroute
# zsh: save as _reroute in a folder of $fpath, or: eval "$(reroute completion zsh)"
_reroute() {
  local -a commands=(
${described.join("\n")}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  local name="$words[2]"
  shift words; (( CURRENT-- ))
  case "$name" in
${cases.join("\n")}
  esac
}
compdef _reroute reroute
`;
}

/** Inside single quotes of a specification, where brackets and colons mean something. */
function zshText(text: string): string {
  return text.replaceAll("'", "'\\''").replace(/[[\]:]/g, (c) => `\\${c}`);
}

function fish(commands: Completed[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = commands.flatMap(({ name, description, options }) => [
    `complete -c reroute -n __fish_use_subcommand -f -a ${name} -d ${quoted(description)}`,
    ...options.map(({ flag, description: about, values, takesValue }) => {
      const value = values.length > 0 ? ` -x -a ${quoted(values.join(" "))}` : takesValue ? " -r" : "";
      return `complete -c reroute -n '__fish_seen_subcommand_from ${name}' -l ${flag.slice(2)}${value} -d ${quoted(about)}`;
    }),
  ]);
  return `# fish: reroute completion fish > ~/.config/fish/completions/reroute.fish\n${lines.join("\n")}\n`;
}
