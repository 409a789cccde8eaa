import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { onTestFinished } from "vitest";

const PROMPT = "ready> ";
/** A key that inserts all completions into the line. */
const INSERT_ALL = "\u0018a";
// They show the words of a line that is entered, in a form that the line itself does not have.
const SHOW_WORDS = `PS1='${PROMPT}'
image-import() { printf '{'; printf '<%s>' "$@"; printf '}\\n'; }
`;

/** The settings that {@link InteractiveShell} needs, for a file that the shell reads first. */
export const SHELL_SETTINGS = {
  bash: `bind '"\\C-xa": insert-completions'\n${SHOW_WORDS}`,
  zsh: `autoload -Uz compinit && compinit -D -u
zle -C all-matches complete-word _generic
bindkey '^Xa' all-matches
zstyle ':completion:all-matches:*' completer _all_matches _complete
zstyle ':completion:all-matches:*' insert true
${SHOW_WORDS}`,
} as const;

/** A shell at a terminal of its own. It ends with the test. */
export class InteractiveShell {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  #output = "";

  /** @param command - with the settings of {@link SHELL_SETTINGS} */
  constructor(
    command: string,
    { directory, env }: { readonly directory: string; readonly env: NodeJS.ProcessEnv },
  ) {
    this.#child = spawn("script", ["-qfec", command, "/dev/null"], {
      cwd: directory,
      env: { ...process.env, TERM: "dumb", ...env },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdout.setEncoding("utf8");
    const ended = once(this.#child, "close");
    onTestFinished(async () => {
      this.#child.stdin.end("exit\n");
      await ended;
    });
  }

  /** The words of a line after all completions of its last word were put in the place of it. */
  async completed(line: string): Promise<string[]> {
    await this.#readUntil(/ready> /);
    this.#child.stdin.write(`${line}${INSERT_ALL}\n`);
    const [, words = ""] = await this.#readUntil(/\{(.*)\}/);
    return [...words.matchAll(/<(.*?)>/g)].map(([, word = ""]) => word);
  }

  async #readUntil(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const found = pattern.exec(this.#output);
      if (found !== null) {
        this.#output = this.#output.slice(found.index + found[0].length);
        return found;
      }
      const [text] = (await once(this.#child.stdout, "data")) as [string];
      this.#output += text;
    }
  }
}
