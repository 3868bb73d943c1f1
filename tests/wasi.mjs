// Runs a program that was compiled to wasm32-wasip1: `node tests/wasi.mjs FILE [ARGUMENT...]`. The engine's tests are such
// programs.
//
// WASI is that of the npm package @bjorn3/browser_wasi_shim, whose main file is $WASI_SHIM. Node's own crashes at the end of a
// program whose memory has grown (seen with 20.20).
import { readFileSync, writeSync } from "node:fs";

const { ConsoleStdout, WASI } = await import(process.env.WASI_SHIM);
const [file, ...rest] = process.argv.slice(2);
const output = (descriptor) => new ConsoleStdout((bytes) => writeSync(descriptor, bytes));
const wasi = new WASI([file, ...rest], [], [output(1), output(1), output(2)]);
const module = new WebAssembly.Module(readFileSync(file));
process.exitCode = wasi.start(new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport }));
