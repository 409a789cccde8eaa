#!/usr/bin/env node
import { keepCompiledCode } from "./compile-cache.mjs";
import { prepare } from "./prepare.mjs";

await prepare();
keepCompiledCode();
await import("#dist/cli/main.js");
