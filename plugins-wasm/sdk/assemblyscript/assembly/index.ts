// What the author of a plugin imports.
export * from "./answer";
export * from "./calls.generated";
export * from "./check";
export * from "./device";
export * from "./interface";
export * from "./ip";
export * from "./json";
export * from "./operations";
export * from "./parent";
export * from "./plugin";
export { cniArg, env, exit, fail, ifname, stderr } from "./process";
export * from "./result";
export * from "./routes";
export * from "./writer";
