/** Imports that the bundler turns into paths or text. They are made by the build, so types must not depend on them. */
declare module "*.so" {
  const path: string;

  export = path;
}
declare module "*.so.1" {
  const path: string;

  export = path;
}
declare module "*.cwasm" {
  const path: string;

  export = path;
}
declare module "*.manifest" {
  const text: string;

  export = text;
}
declare module "*/build/embedded.json" {
  type Hashed = { readonly sha256: string };
  const built: {
    readonly libwasmtime: Hashed & { readonly bytes: number };
    readonly libgcc: Hashed & { readonly bytes: number };
    readonly plugins: Readonly<Record<string, Hashed>>;
  };

  export = built;
}
