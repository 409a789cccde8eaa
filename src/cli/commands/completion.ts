import { Argument, type Command } from "commander";
import { inSession, type Session } from "../session.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;

type Shell = (typeof SHELLS)[number];

/** `completion <shell>`: prints the script that completes the commands in a shell. */
export function addCompletionCommand(program: Command): void {
  program
    .command("completion")
    .addArgument(new Argument("<shell>", "shell of the script").choices(SHELLS))
    .description("print a script with which a shell completes commands, options and values")
    .action(
      inSession(async (session: Session, shell: Shell) => {
        const script = await completionScript(program, shell);
        session.answer({ shell, script }, () => script);
      }),
    );
}

async function completionScript(program: Command, shell: Shell): Promise<string> {
  const { completedCommand } = await import("../completion/completed-command.ts");
  const tree = completedCommand(program);
  switch (shell) {
    case "bash":
      return (await import("../completion/bash-completion.ts")).bashCompletion(tree);
    case "zsh":
      return (await import("../completion/zsh-completion.ts")).zshCompletion(tree);
    case "fish":
      return (await import("../completion/fish-completion.ts")).fishCompletion(tree);
  }
}
