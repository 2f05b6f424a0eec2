// What is wider than its place can be scrolled with the arrow keys once the Tab key has led there.
for (const box of document.querySelectorAll("pre, .table-wrapper, article :has(> img)")) {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
}
// Furo's captions in the table of contents say that they are headings, and not of which level.
for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.ariaLevel = "2";
document.querySelector(".sidebar-drawer").ariaLabel = "Pages of the course";
